"""deepnorm: the shortcut of a post-norm transformer is weighed up, its branches' weights down."""

from __future__ import annotations

from typing import ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Retrofit, spots
from skipgrad.remedies.retrofit.branches import branches_of, is_post_norm, part_of_values
from skipgrad.remedies.retrofit.design import Design, Value, short_add
from skipgrad.remedies.retrofit.places import traced


class DeepNorm(Retrofit):
    """LN(α·x + F(x)) in place of LN(x + F(x)), with α = (2N)^¼ and the weights of F but queries and keys × (8N)^−¼.

    N is half the number of post-norm adds: a layer has two. The weights are the net's own, scaled; the paper draws them
    with that gain.

    Paper: Wang et al. 2022, DeepNet: scaling transformers to 1,000 layers (arXiv:2203.00555), encoder-only or
    decoder-only.
    """

    name: ClassVar[str] = "deepnorm"
    title: ClassVar[str] = "Weigh the shortcuts of a post-norm transformer up"

    def design(self, graph: SkipGraph) -> Design:
        trace = traced(self.name, graph)

        def wanted(skip: Skip) -> str | None:
            match = trace.matches.get(skip.name)
            if (reason := short_add(skip)) or match is None:
                return reason or "it was not found in one trace"
            return (
                None if is_post_norm(graph, trace, skip) else "no norm follows its add: deepnorm is for post-norm nets"
            )

        found, left = spots(self.name, graph, wanted, "shortcut")
        reached = [n for s in found for n in s.skips]
        many = max(1, len(reached))  # 2N
        values: dict[str, Value] = {}
        for b in branches_of(trace, graph, reached):
            for weight in b.matrices:
                start = part_of_values(weight)
                if start is not None:
                    values.setdefault(weight, Value(weight, (4 * many) ** -0.25, start=start))
        edits = tuple((s, ("Factor", {"factor": many**0.25})) for s in found)
        return Design(edits, tuple(values.values()), left=tuple(left))

    def form(self, design: Design) -> tuple[str, str]:
        return "LN(x + F(x))", "LN(α·x + F(x))"


REMEDIES.register("deepnorm", DeepNorm(), rank=15)
