"""Stochastic depth whose dropped samples cost nothing: the branch runs on the kept ones only."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, check_sum, through
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears
from skipgrad.core import BadInput, nearest

MODES = ("row", "batch")


class StochasticDepth(nn.Module):
    """x + b·F(x)/p, b drawn with probability p = ``survival_prob`` for each sample (or once for the batch); x + F(x)
    in evaluation.

    Huang et al., "Deep networks with stochastic depth" (arXiv 1603.09382), scaled in training as is usual now. Of a
    batch in which k samples are kept, F runs on those k, so that a step gets cheaper by what is dropped; a batch norm
    inside F then takes its statistics of those k. The draws are independent, k is random.

    Args:
        branch: F; it takes a batch of any size from 1 on, and keeps shapes.
        survival_prob: p, in (0, 1]; timm's ``drop_path_rate`` is 1 − p.
        mode: ``"row"`` draws for each sample, ``"batch"`` for all at once.
        shortcut: what x goes through on its way past the branch, where the shape changes; None for the identity.

    Raises:
        BadInput: a probability outside (0, 1], another mode; in the forward, when branch and x do not add.
    """

    def __init__(
        self,
        branch: nn.Module,
        survival_prob: float = 0.8,
        mode: Literal["row", "batch"] = "row",
        *,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not (isinstance(survival_prob, int | float) and 0 < survival_prob <= 1):
            raise BadInput(
                "building a residual with stochastic depth",
                received=f"survival_prob={survival_prob!r}",
                todo="give the probability to keep a branch, above 0 and at most 1; a drop_path_rate r is "
                "survival_prob=1-r",
            )
        if mode not in MODES:
            raise BadInput(
                "building a residual with stochastic depth", received=f"mode={mode!r}", todo=nearest(str(mode), MODES)
            )
        self.branch, self.shortcut = branch, shortcut
        self.survival_prob, self.mode = float(survival_prob), mode

    def extra_repr(self) -> str:
        return f"survival_prob={self.survival_prob}, mode={self.mode!r}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.survival_prob == 1.0:
            return added(self, through(self.shortcut, x), self.branch(x))
        # Drawn on the CPU: which samples run has to be known there, and a GPU need not be waited for.
        draws = torch.rand(x.shape[0] if self.mode == "row" else 1, device="cpu") < self.survival_prob
        kept = draws.nonzero().squeeze(1)
        if not len(kept):
            return through(self.shortcut, x)
        if len(kept) == len(draws):
            return added(self, through(self.shortcut, x), self.branch(x) / self.survival_prob)
        kept = kept.to(x.device)
        part = x.index_select(0, kept)
        f = self.branch(part)
        y = through(self.shortcut, x)
        check_sum(self, y[: len(part)], f)
        return y.index_add(0, kept, f.expand(len(part), *y.shape[1:]).to(y.dtype), alpha=1 / self.survival_prob)


FORMS.register(
    "stochastic-depth",
    FormEntry(
        title="Stochastic depth",
        build=StochasticDepth,
        example=lambda: StochasticDepth(linears(), survival_prob=0.5).eval(),
        shape=FEATURES,
        formula="y = x + b·F(x)/p, b ~ Bernoulli(p); x + F(x) in evaluation",
        paper='Huang et al., "Deep networks with stochastic depth", 2016 (arXiv 1603.09382)',
        shapes="(N, …) → the same; the branch keeps it, for any N",
        start="x + F(x) in evaluation; in training, the same on average",
        initially=lambda m, x: x + m.branch(x),  # type: ignore[operator]
        finds=(Seen("add", "identity", 2),),
        when="Deep nets that overfit or train slowly. Let p fall with depth (1 at the first block, the least at "
        "the last).",
        cost="less than none: the dropped samples are not computed; a gather and a scatter",
        sees="Traced in training mode with nothing dropped; a batch in which some samples are dropped adds by "
        "index, and is an add as well.",
        breaks="in training, once a block: how many samples are kept is known only when they are drawn; in "
        "evaluation nowhere",
        outside="torchvision StochasticDepth, timm DropPath (in distribution)",
    ),
)
