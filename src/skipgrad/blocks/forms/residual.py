"""The residual connection: y = x + F(x), with a scale, and a norm before the branch or behind the add."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears


class Residual(nn.Module):
    """act(norm(x + s·F(x))), or act(x + s·F(norm(x))) with ``norm_first``: any shape that the branch keeps.

    He et al., "Deep residual learning for image recognition" (arXiv 1512.03385). With no norm and no activation it is
    the bare x + s·F(x); with ``norm_first=True`` the Pre-LN block, with ``norm_first=False`` the Post-LN block.

    Args:
        branch: F, any module of one tensor.
        scale: s, a number, or a module that scales what F returns.
        norm: a norm, or None.
        norm_first: the norm is on the branch, not on the sum.
        activation: what the sum goes through (``nn.ReLU()`` in ResNet), or None.
        shortcut: what x goes through on its way past the branch; None for the identity.

    Raises:
        BadInput: in the forward, when branch and shortcut do not add.
    """

    def __init__(
        self,
        branch: nn.Module,
        *,
        scale: float | nn.Module = 1.0,
        norm: nn.Module | None = None,
        norm_first: bool = False,
        activation: nn.Module | None = None,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.branch, self.scale, self.norm, self.norm_first = branch, scale, norm, norm_first
        self.activation, self.shortcut = activation, shortcut

    def forward(self, x: Tensor) -> Tensor:
        f = self.branch(self.norm(x) if self.norm is not None and self.norm_first else x)
        if isinstance(self.scale, nn.Module):
            f = self.scale(f)
        elif self.scale != 1.0:
            f = self.scale * f
        y = added(self, x if self.shortcut is None else self.shortcut(x), f)
        if self.norm is not None and not self.norm_first:
            y = self.norm(y)
        return y if self.activation is None else self.activation(y)


FORMS.register(
    "residual",
    FormEntry(
        title="Residual, post-activation",
        build=Residual,
        example=lambda: Residual(linears(), activation=nn.ReLU()),
        shape=FEATURES,
        formula="y = relu(x + F(x))",
        paper='He et al., "Deep residual learning for image recognition", 2015 (arXiv 1512.03385)',
        shapes="any → the same; the branch keeps it",
        start="relu(x + F(x))",
        initially=lambda m, x: F.relu(x + m.branch(x)),  # type: ignore[operator]
        finds=(Seen("add", "identity", 2),),
        when="The plain form, and the place to start. The activation behind the add is on the way of every "
        "gradient: in deep nets prefer `preact`.",
        cost="one add",
        outside="monai SkipConnection (mode add)",
    ),
)
