"""fixup: branches without norms, their weights scaled down by their number and depth."""

from __future__ import annotations

from typing import ClassVar

from skipgrad.core.branches import strip_call
from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.branches import branches_of
from skipgrad.remedies.retrofit.design import Design, Value, short_add
from skipgrad.remedies.retrofit.places import traced


class Fixup(Retrofit):
    """y = x + α·F(x) with α = 1, F without norms, its m weights × L^(−1/(2m−2)) and the last of them 0.

    L is the number of branches. The norms on the branches become their own scale (1) and shift (0): the paper's
    multipliers and biases, here one for each channel. The weights are the net's own, scaled, not drawn anew; the layer
    that makes the net's output is set to zero, as in the paper, when it is on no branch.

    Paper: Zhang et al. 2019, Fixup initialization (arXiv:1901.09321).
    """

    name: ClassVar[str] = "fixup"
    title: ClassVar[str] = "No norms on the branches, and weights scaled by depth"

    def design(self, graph: SkipGraph) -> Design:
        found, left = spots(self.name, graph, short_add)
        trace = traced(self.name, graph)
        reached = [n for s in found for n in s.skips]
        branches = branches_of(trace, graph, reached)
        many = max(1, len(branches))
        values: dict[str, Value] = {}
        for b in branches:
            m = len(b.matrices)
            for weight in b.matrices[:-1]:
                values.setdefault(weight, Value(weight, many ** (-1 / (2 * m - 2))))
            if m:
                values[b.matrices[-1]] = Value(b.matrices[-1])
        norms = tuple(dict.fromkeys(n for b in branches for n in b.norms))
        shapes = {n.params[0] for n in trace.graph.nodes if n.op == "param" and n.params}
        for norm in norms:
            for name, fill in (("weight", 1.0), ("bias", 0.0)):
                if f"{norm}.{name}" in shapes:
                    values[f"{norm}.{name}"] = Value(f"{norm}.{name}", fill=fill)
        on_branches = {
            strip_call(p) for s in graph.skips for branch in (*s.branches, s.shortcut_modules) for p in branch
        }
        last = trace.layers[-1] if trace.layers else None
        if last is not None and strip_call(last[0]) not in on_branches:
            values |= {p: Value(p) for p in last[1].params if p in shapes}
        edits = tuple((s, ("Scale", {"start": 1.0})) for s in found)
        return Design(edits, tuple(values.values()), norms, left=tuple(left))

    def form(self, design: Design) -> tuple[str, str]:
        return "x + F(x)", "x + α·F(x), F without norms and 0 at the start"


REMEDIES.register("fixup", Fixup(), rank=13)
