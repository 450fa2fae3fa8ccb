"""skipinit: a scalar on every branch, zero at the start, in place of the branch's norms."""

from __future__ import annotations

from typing import ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.branches import branches_of
from skipgrad.remedies.retrofit.design import Design, short_add
from skipgrad.remedies.retrofit.places import traced


class SkipInit(Retrofit):
    """y = x + α·F(x) with α = 0 at the start, where the norms on F become their own scale and shift.

    Paper: De & Smith 2020, Batch normalization biases residual blocks towards the identity function in deep networks
    (arXiv:2002.10444). The norms outside of branches stay.

    Args:
        start: α at the start.
    """

    name: ClassVar[str] = "skipinit"
    title: ClassVar[str] = "A scalar on every branch in place of its norms"

    def __init__(self, start: float = 0.0) -> None:
        self.start = float(start)

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, short_add)
        reached = [n for s in found for n in s.skips]
        norms = [n for b in branches_of(traced(self.name, graph), graph, reached) for n in b.norms]
        edits = tuple((s, ("Scale", {"start": self.start})) for s in found)
        return Design(edits, unnormed=tuple(dict.fromkeys(norms)), left=tuple(left))

    def form(self, design: Design) -> tuple[str, str]:
        return "x + F(x)", "x + α·F(x), F without norms"


REMEDIES.register("skipinit", SkipInit(), rank=11)
