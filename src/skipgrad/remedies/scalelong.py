"""scalelong: the long skips of a U-Net times a factor that falls with their length."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.remedies.records import Left
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.design import Design, Make
from skipgrad.remedies.retrofit.places import Spot


class ScaleLong(Retrofit):
    """[κ^(i−1)·skip_i, up] in place of [skip_i, up], where skip 1 is the longest.

    Paper: Huang et al. 2023, ScaleLong (arXiv:2310.13545), which orders the skips from the one nearest the input; 1/√2
    is what diffusion U-Nets used before.

    Args:
        kappa: κ, in (0, 1]: 0.5 to 0.95 in the paper. 1 leaves the output as it was.
        factor: the same factor for every long skip in place of κ^(i−1): 2**-0.5, or 0 to switch long skips off.
        learned: a factor for each sample and channel, learned from the skip itself (the paper's LS), 1 at the
            start. The shortcut is then a gate, and `find` lists no skip there any more.
    """

    name: ClassVar[str] = "scalelong"
    title: ClassVar[str] = "Scale the long skips of a U-Net down"

    def __init__(self, kappa: float = 0.7, factor: float | None = None, learned: bool = False) -> None:
        if not 0 < kappa <= 1:
            raise BadInput(
                "setting up scalelong",
                where="kappa",
                received=str(kappa),
                todo="give one in (0, 1]; factor=0 switches long skips off",
            )
        if factor is not None and not math.isfinite(factor):
            raise BadInput(
                "setting up scalelong", where="factor", received=str(factor), todo="give a number such as 2**-0.5"
            )
        self.kappa, self.factor, self.learned = float(kappa), factor, learned

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, _long, "shortcut")
        # The longest has the earliest fork.
        spans = {s.name: (s.start, -s.end) for s in graph.skips}
        order = sorted(range(len(found)), key=lambda k: min(spans[n] for n in found[k].skips))
        edits: list[tuple[Spot, Make]] = []
        factors: list[float] = []
        for i, k in enumerate(order):
            spot = found[k]
            if self.learned:
                if spot.axis is None:
                    left += [Left(s, "it is not known which dimension holds its channels") for s in spot.skips]
                    continue
                arguments: dict[str, Any] = {"width": spot.width, "axis": spot.axis}
                edits.append((spot, ("LearnedScale", arguments)))
            else:
                factors.append(self.kappa**i if self.factor is None else float(self.factor))
                edits.append((spot, ("Factor", {"factor": factors[-1]})))
        return Design(tuple(edits), left=tuple(left), same=self.learned or all(f == 1 for f in factors))

    def form(self, design: Design) -> tuple[str, str]:
        return "[x, F(x)]", "[s(x)·x, F(x)]" if self.learned else "[κ^(i−1)·x, F(x)]"


def _long(skip: Skip) -> str | None:
    if not skip.long:
        return "it is a short skip"
    return None if skip.kind in ("concat", "add") else f"its merge is a {skip.kind}"


REMEDIES.register("scalelong", ScaleLong(), rank=18)
