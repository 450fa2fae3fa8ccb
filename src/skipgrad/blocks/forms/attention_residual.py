"""Attention residuals: a block reads a softmax-weighted mean of everything before it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, linears


class AttentionResidual(nn.Module):
    """h_k = Σ_{j<k} softmax_j(q_k · norm(v_j)) v_j, v₀ = x, v_k = F_k(h_k); y is one more such mean: (…, channels) →
    the same.

    Kimi team, "Attention residuals" (arXiv 2603.15031). q_k = 0 at the start, so that each mean is uniform; norm is
    an RMS norm without weights.

    Args:
        branches: F₁ … F_L, each with its own norm.
        channels: channels of x, its last dimension.

    Raises:
        BadInput: in the forward, a branch that changes the shape.
    """

    def __init__(self, branches: Iterable[nn.Module], channels: int) -> None:
        super().__init__()
        self.branch = nn.ModuleList(branches)
        self.queries = nn.Parameter(torch.zeros(len(self.branch) + 1, channels))

    def no_weight_decay(self) -> set[str]:
        """Names of what weight decay is to leave alone."""
        return {"queries"}

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for query, branch in zip(self.queries, self.branch, strict=False):
            new = branch(_read(query, values))
            check_sum(self, x, new)
            values.append(new)
        return _read(self.queries[-1], values)


def _read(query: Tensor, values: list[Tensor]) -> Tensor:
    """The mean over depth: weights by how well the query fits what each layer returned."""
    stacked = torch.stack(values)
    keys = F.rms_norm(stacked, stacked.shape[-1:])
    weights = torch.softmax(keys @ query, 0)
    return (weights.unsqueeze(-1) * stacked).sum(0)


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    def mean(*values: Tensor) -> Tensor:
        return (torch.full((len(values), 1, 1, 1), 1 / len(values), dtype=x.dtype) * torch.stack(values)).sum(0)

    one = m.branch[0](mean(x))  # type: ignore[index]
    two = m.branch[1](mean(x, one))  # type: ignore[index]
    return mean(x, one, two)


FORMS.register(
    "attention-residual",
    FormEntry(
        title="Attention residuals",
        build=AttentionResidual,
        example=lambda: AttentionResidual([linears(), linears()], 6),
        shape=TOKENS,
        formula="h_k = Σ_{j<k} softmax_j(q_k · norm(v_j)) v_j, v_k = F_k(h_k)",
        paper='"Attention residuals", 2026 (arXiv 2603.15031)',
        shapes="(…, C) → the same; the branches keep it",
        start="uniform means: h_k = (v₀ + … + v_{k−1})/k",
        initially=_initially,
        finds=(),
        when="Deep transformers whose stream grows with depth: the mean does not, and each block chooses what it "
        "reads.",
        cost="the memory of all earlier outputs, and one softmax over depth a token and branch",
        sees="The weights are computed from the values they weigh, so that no path around a branch is linear: "
        "`find` lists no skip, by definition, and names the products among what is no skip.",
    ),
)
