"""DenseFormer: each block's output is averaged, with learned weights, with all before it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears
from skipgrad.core import BadInput


class DenseFormer(nn.Module):
    """X₀ = x, X_i = B_i(Y_{i−1}), Y_i = Σ_{j≤i} α_ij X_j; α_ii = 1 and the others 0 at the start: any shape the
    blocks keep.

    Pagliardini et al., "DenseFormer: enhancing information flow in transformers via depth weighted averaging" (arXiv
    2402.02622).

    Args:
        blocks: B₁ … B_N, whole blocks with skips of their own, usually.
        dilation: only every ``dilation``-th of the earlier outputs, counted back from the newest, is averaged.
        period: only behind every ``period``-th block there is an average.

    Raises:
        BadInput: a dilation or period below 1; in the forward, a block that changes the shape.
    """

    def __init__(self, blocks: Iterable[nn.Module], dilation: int = 1, period: int = 1) -> None:
        super().__init__()
        if dilation < 1 or period < 1:
            raise BadInput(
                "building a DenseFormer", received=f"dilation={dilation}, period={period}", todo="give at least 1"
            )
        self.branch = nn.ModuleList(blocks)
        self.dilation, self.period = dilation, period
        sizes = [len(self._used(i)) for i in range(1, len(self.branch) + 1)]
        self.alphas = nn.ParameterList([torch.cat([torch.zeros(n - 1), torch.ones(1)]) for n in sizes])

    def _used(self, i: int) -> range:
        """Numbers of the outputs that the average behind block i takes, oldest first."""
        return range(i % self.dilation, i + 1, self.dilation)

    def no_weight_decay(self) -> set[str]:
        """Names of what weight decay is to leave alone."""
        return {f"alphas.{i}" for i in range(len(self.alphas))}

    def forward(self, x: Tensor) -> Tensor:
        outputs, y = [x], x
        for i, block in enumerate(self.branch, 1):
            new = block(y)
            check_sum(self, x, new)
            outputs.append(new)
            y = new
            if i % self.period == 0:
                alpha = self.alphas[i - 1]
                terms: list[Tensor] = [alpha[k] * outputs[j] for k, j in enumerate(self._used(i))]
                y = sum(terms[1:], start=terms[0])
        return y


FORMS.register(
    "denseformer",
    FormEntry(
        title="DenseFormer",
        build=DenseFormer,
        example=lambda: DenseFormer([linears(), linears()]),
        shape=TOKENS,
        formula="Y_i = Σ_{j≤i} α_ij X_j, X_i = B_i(Y_{i−1})",
        paper='Pagliardini et al., "DenseFormer", 2024 (arXiv 2402.02622)',
        shapes="any → the same; the blocks keep it",
        start="the blocks one after the other: α_ii = 1, the other weights 0",
        initially=lambda m, x: m.branch[1](m.branch[0](x)),  # type: ignore[index]
        finds=(Seen("add", "scaled", 2), Seen("add", "scaled", 4, 3, long=True)),
        when="Deep transformers: later blocks may read early representations again. Take a dilation and a period "
        "of 4 or so in deep ones.",
        cost="N²/2 numbers, and the memory and the adds of all earlier outputs, divided by dilation and period",
    ),
)
