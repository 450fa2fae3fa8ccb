"""stochastic-depth: branches are dropped at random while the net trains, later ones more often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.design import Design, short_add
from skipgrad.remedies.retrofit.places import RESULT


class StochasticDepth(Retrofit):
    """y = x + b·F(x)/p in training, with b = 1 with probability p; y = x + F(x) in evaluation.

    Where features are concatenated, as in a DenseNet, y = [x, b·F(x)/p]: a layer's features are dropped for all that
    read them later.

    p falls linearly from 1 at the first branch to ``survival_prob`` at the last. The branch is computed and then
    dropped: the saving of the paper needs a block that is not run, see `skipgrad.blocks.FORMS`.

    Paper: Huang et al. 2016, Deep networks with stochastic depth (arXiv:1603.09382).

    Args:
        survival_prob: p of the last branch, in (0, 1].
        per_sample: each sample draws for itself (as timm's DropPath); False: once for the batch (as the paper).
        linear: False: the same p for all.
    """

    name: ClassVar[str] = "stochastic-depth"
    title: ClassVar[str] = "Drop branches at random in training"
    knobs: ClassVar[Mapping[str, Knob]] = {"survival_prob": Span(0.5, 1.0)}

    def __init__(self, survival_prob: float = 0.9, per_sample: bool = True, linear: bool = True) -> None:
        if not 0 < survival_prob <= 1:
            raise BadInput(
                "setting up stochastic-depth",
                where="survival_prob",
                received=str(survival_prob),
                todo="give one in (0, 1]",
            )
        self.survival_prob, self.per_sample, self.linear = float(survival_prob), per_sample, linear

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, _short, dense=True)
        many = max(1, len(found) - 1)
        edits = []
        for i, spot in enumerate(found):
            p = 1 - (i / many if self.linear and len(found) > 1 else 1) * (1 - self.survival_prob)
            edits.append((spot, ("DropPath", {"survival_prob": p, "per_sample": self.per_sample})))
        return Design(tuple(edits), left=tuple(left), same=True)

    def form(self, design: Design) -> tuple[str, str]:
        if any(spot.place.position == RESULT for spot, _ in design.edits):
            return "[x, F(x)]", "[x, b·F(x)/p] in training"
        return "x + F(x)", "x + b·F(x)/p in training"


def _short(skip: Skip) -> str | None:
    return None if skip.kind == "concat" and not skip.long else short_add(skip)


REMEDIES.register("stochastic-depth", StochasticDepth(), rank=16)
