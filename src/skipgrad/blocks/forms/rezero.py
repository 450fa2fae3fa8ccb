"""ReZero: one learned number on each branch, zero at the start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, scaled, through
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears


class ReZero(nn.Module):
    """x + α·F(x) with α = 0 at the start: any shape that the branch keeps.

    Bachlechner et al., "ReZero is all you need" (arXiv 2003.04887).

    Args:
        branch: F.
        shortcut: what x goes through on its way past the branch, where the shape changes; None for the identity.

    Raises:
        BadInput: in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, *, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return added(self, through(self.shortcut, x), scaled(self.alpha, self.branch(x)))


FORMS.register(
    "rezero",
    FormEntry(
        title="ReZero",
        build=ReZero,
        example=lambda: ReZero(linears()),
        shape=FEATURES,
        formula="y = x + α·F(x), α₀ = 0",
        paper='Bachlechner et al., "ReZero is all you need", 2020 (arXiv 2003.04887)',
        shapes="any → the same; the branch keeps it",
        start="the identity",
        initially=lambda _, x: x,
        finds=(Seen("add", "identity", 2),),
        when="Deep nets without norms, and deep transformers: signal and gradient pass unscaled until a branch "
        "has something to say. Keep α out of weight decay (`sg.param_groups`).",
        cost="one number a branch; in the first step only the α have a gradient",
    ),
)
