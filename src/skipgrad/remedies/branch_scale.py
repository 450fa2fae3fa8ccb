"""branch-scale: every branch times a constant that falls with their number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.knobs import Choice, Knob
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.design import Design, short_add


class BranchScale(Retrofit):
    """y = x + c·F(x) with a constant c, 1/√L by default, where L is the number of short adds.

    The variance of a sum of L branches stays that of one; 1/L is the scale at which the depth limit is an ordinary
    differential equation.

    Papers: De & Smith 2020, SkipInit (arXiv:2002.10444); Yang et al. 2023, Depth-muP (arXiv:2310.02244); Dey et al.
    2025, CompleteP (arXiv:2505.01618).

    Args:
        scale: c itself, or ``"1/sqrt(L)"`` or ``"1/L"``.
    """

    name: ClassVar[str] = "branch-scale"
    title: ClassVar[str] = "Every branch times 1/√L"
    knobs: ClassVar[Mapping[str, Knob]] = {"scale": Choice(("1/sqrt(L)", "1/L"))}

    def __init__(self, scale: float | str = "1/sqrt(L)") -> None:
        if scale not in ("1/sqrt(L)", "1/L") and not (isinstance(scale, int | float) and math.isfinite(scale)):
            raise BadInput(
                "setting up branch-scale",
                where="scale",
                received=repr(scale),
                todo='give a number, "1/sqrt(L)" or "1/L"',
            )
        self.scale = scale

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, short_add)
        many = max(1, sum(len(s.skips) for s in found))
        factor = self.scale if isinstance(self.scale, int | float) else 1 / many if self.scale == "1/L" else many**-0.5
        return Design(
            tuple((s, ("Factor", {"factor": float(factor)})) for s in found), left=tuple(left), same=factor == 1
        )

    def form(self, design: Design) -> tuple[str, str]:
        return "x + F(x)", "x + c·F(x)"


REMEDIES.register("branch-scale", BranchScale(), rank=14)
