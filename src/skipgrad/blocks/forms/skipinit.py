"""SkipInit: one learned number at the end of each branch, zero or small at the start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, scaled, through
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears


class SkipInit(nn.Module):
    """x + α·F(x), α a learned number that starts at ``init``: any shape that the branch keeps.

    De and Smith, "Batch normalization biases residual blocks towards the identity function in deep networks"
    (arXiv 2002.10444): zero, or 1/√N for N branches.

    Args:
        branch: F.
        init: where α starts.
        shortcut: what x goes through on its way past the branch, where the shape changes; None for the identity.

    Raises:
        BadInput: in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, init: float = 0.0, *, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut
        self.alpha = nn.Parameter(torch.full((1,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return added(self, through(self.shortcut, x), scaled(self.alpha, self.branch(x)))


FORMS.register(
    "skipinit",
    FormEntry(
        title="SkipInit",
        build=SkipInit,
        example=lambda: SkipInit(linears()),
        shape=FEATURES,
        formula="y = x + α·F(x), α₀ = 0 or 1/√N",
        paper='De and Smith, "Batch normalization biases residual blocks to the identity", 2020 (arXiv 2002.10444)',
        shapes="any → the same; the branch keeps it",
        start="the identity (with the default `init=0`)",
        initially=lambda _, x: x,
        finds=(Seen("add", "identity", 2),),
        when="Residual nets whose batch norms are to go: it does what they do at the start. The same graph as "
        "`rezero`; the value α starts at may be another.",
        cost="one number a branch",
    ),
)
