"""pre-norm: the norms of a post-norm net go to the front of the branches."""

from __future__ import annotations

from typing import ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.finder import Found
from skipgrad.finder.graph import Edge
from skipgrad.finder.records import Match
from skipgrad.remedies.records import Left
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, Spot
from skipgrad.remedies.retrofit.branches import is_post_norm, norm_after
from skipgrad.remedies.retrofit.design import Design, Make, Moved, short_add
from skipgrad.remedies.retrofit.places import Calls, traced


class PreNorm(Retrofit):
    """x + F(LN(x)) in place of LN(x + F(x)): each norm goes to the front of its own branch.

    A new norm stands behind the last add, as in GPT-2.

    Papers: Xiong et al. 2020, On layer normalization in the transformer architecture (arXiv:2002.04745); Nguyen &
    Salazar 2019 (arXiv:1910.05895).
    """

    name: ClassVar[str] = "pre-norm"
    title: ClassVar[str] = "Move the norms of a post-norm net into the branches"

    def design(self, graph: SkipGraph) -> Design:
        found = traced(self.name, graph)
        calls = Calls(found)
        edits: list[tuple[Spot, Make]] = []
        moved: list[Moved] = []
        left: list[Left] = []
        for skip in graph.skips:
            match = found.matches.get(skip.name)
            reason = "it was not found in one trace" if match is None else short_add(skip)
            if reason is None and not is_post_norm(graph, found, skip):
                reason = "no norm follows its add: it is pre-norm already, or has none"
            if reason is not None or match is None:
                left.append(Left(skip.name, reason or ""))
                continue
            norm = norm_after(found, match)
            assert norm is not None
            uses = _front(found, calls, skip, match, norm.module)
            if isinstance(uses, str):
                left.append(Left(skip.name, uses))
                continue
            edits += [(spot, ("Normed", {"norm": norm.module})) for spot in uses]
            moved.append(Moved(norm.module, not any(s.previous == skip.name for s in graph.skips)))
        return Design(tuple(edits), moved=tuple(moved), left=tuple(left))

    def form(self, design: Design) -> tuple[str, str]:
        return "LN(x + F(x))", "x + F(LN(x))"


def _front(found: Found, calls: Calls, skip: Skip, match: Match, norm: str) -> list[Spot] | str:
    """The uses of x on the branch, as arguments of calls in a module that holds them all; or why there are none."""
    nodes = found.graph.nodes
    if calls.runs(norm) > 1:
        return f"its norm {norm} is used by several skips"
    if len(match.sources) != 1:
        return "its fork is made of several tensors"
    source = match.sources[0]
    uses = [e for e in found.graph.consumers[source] if match.branch_nodes >> e.op & 1]
    home = _common([skip.owner, *(nodes[e.op].module for e in uses)])
    spots = []
    for use in uses:
        place = calls.place(Edge(use.op, use.pos), home)
        if isinstance(place, str):
            return place.replace("its merge", "the front of its branch")
        spots.append(Spot((skip.name,), "branch", place, nodes[source].shape, None))
    return spots or "the front of its branch is not known"


def _common(paths: list[str]) -> str:
    """The innermost module that holds all of some."""
    parts = [p.split(".") if p else [] for p in paths]
    common: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    return ".".join(common)


REMEDIES.register("pre-norm", PreNorm(), rank=17)
