"""rezero: a learned scalar on every branch, zero at the start."""

from __future__ import annotations

from typing import ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.design import Design, short_add


class ReZero(Retrofit):
    """y = x + α·F(x) with one learned scalar α a branch, α = 0 at the start, so that y = x.

    Paper: Bachlechner et al. 2020, ReZero is all you need (arXiv:2003.04887). The paper also takes the layer norms out
    of a transformer; here they stay.

    Args:
        start: α at the start. With 1 the net's output is what it was, so that a trained net keeps what it learned.
    """

    name: ClassVar[str] = "rezero"
    title: ClassVar[str] = "A learned scalar on every branch, zero at the start"

    def __init__(self, start: float = 0.0) -> None:
        self.start = float(start)

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, short_add)
        return Design(
            tuple((s, ("Scale", {"start": self.start})) for s in found), left=tuple(left), same=self.start == 1
        )

    def form(self, design: Design) -> tuple[str, str]:
        return "x + F(x)", "x + α·F(x)"


REMEDIES.register("rezero", ReZero(), rank=10)
