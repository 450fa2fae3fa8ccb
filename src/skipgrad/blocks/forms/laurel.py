"""LAuReL: the shortcut gets a learned low-rank part, and both paths a weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum, scaled
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears
from skipgrad.core import BadInput


class Laurel(nn.Module):
    """α·F(x) + β·(x + U V x), U and V of low rank, U = 0 and α = β = 1 at the start: (…, channels) → the same.

    Menghani, Kumar and Kumar, "LAuReL: learned augmented residual layer" (arXiv 2411.07501), its variants RW and LR
    together.

    Args:
        branch: F.
        channels: channels of x, its last dimension.
        rank: of U V; 0 leaves it out (the variant RW).
        weighted: whether α and β are learned; False leaves them at 1 (the variant LR).

    Raises:
        BadInput: a negative rank; in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, channels: int, rank: int = 16, *, weighted: bool = True) -> None:
        super().__init__()
        if rank < 0:
            raise BadInput("building a LAuReL residual", received=f"rank={rank}", todo="give a rank of at least 0")
        self.branch, self.weighted = branch, weighted
        self.low = (
            nn.Sequential(nn.Linear(channels, rank, bias=False), nn.Linear(rank, channels, bias=False))
            if rank
            else None
        )
        if self.low is not None:
            nn.init.zeros_(self.low[1].weight)  # type: ignore[arg-type]
        if weighted:
            self.alpha, self.beta = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        f = self.branch(x)
        check_sum(self, x, f)
        terms = [f, x] if self.low is None else [f, x, self.low(x)]
        if self.weighted:
            terms = [scaled(self.alpha, terms[0]), *(scaled(self.beta, term) for term in terms[1:])]
        return sum(terms[1:], start=terms[0])


FORMS.register(
    "laurel",
    FormEntry(
        title="LAuReL",
        build=Laurel,
        example=lambda: Laurel(linears(), 6, rank=2),
        shape=TOKENS,
        formula="y = α·F(x) + β·(x + U V x)",
        paper='Menghani, Kumar and Kumar, "LAuReL: learned augmented residual layer", 2024 (arXiv 2411.07501)',
        shapes="(…, C) → the same; the branch keeps it",
        start="F(x) + x",
        initially=lambda m, x: m.branch(x) + x,  # type: ignore[operator]
        finds=(Seen("add", "scaled", 2, 3),),
        when="A little more expression for few weights: 2·rank·channels a block, against a wider or a deeper net.",
        cost="two thin matrices a block",
    ),
)
