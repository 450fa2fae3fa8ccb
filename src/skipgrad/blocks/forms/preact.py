"""The pre-activation residual: norm and activation before the branch, nothing but adds on the way."""

from __future__ import annotations

from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears


class PreAct(nn.Module):
    """x + F(act(norm(x))): any shape that the branch keeps.

    He et al., "Identity mappings in deep residual networks" (arXiv 1603.05027).

    Args:
        branch: F; it starts with a weighted layer.
        norm: the norm over x, or None.
        activation: what follows the norm, or None.
        shortcut: what the *activated* input goes through where the shape changes, as in the paper; None for x itself.

    Raises:
        BadInput: in the forward, when branch and shortcut do not add.
    """

    def __init__(
        self,
        branch: nn.Module,
        *,
        norm: nn.Module | None = None,
        activation: nn.Module | None = None,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.branch, self.norm, self.activation, self.shortcut = branch, norm, activation, shortcut

    def forward(self, x: Tensor) -> Tensor:
        active = x if self.norm is None else self.norm(x)
        active = active if self.activation is None else self.activation(active)
        return added(self, x if self.shortcut is None else self.shortcut(active), self.branch(active))


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    return x + m.branch(m.activation(m.norm(x)))  # type: ignore[operator]


FORMS.register(
    "preact",
    FormEntry(
        title="Residual, pre-activation",
        build=PreAct,
        example=lambda: PreAct(linears(), norm=nn.LayerNorm(6), activation=nn.ReLU()),
        shape=FEATURES,
        formula="y = x + F(relu(norm(x)))",
        paper='He et al., "Identity mappings in deep residual networks", 2016 (arXiv 1603.05027)',
        shapes="any → the same; the branch keeps it",
        start="x + F(relu(norm(x)))",
        initially=_initially,
        finds=(Seen("add", "identity", 2),),
        when="Deep nets: the gradient of the loss reaches every block unscaled. End the net with a norm and an "
        "activation.",
        cost="one add; a norm and an activation at the end of the net",
    ),
)
