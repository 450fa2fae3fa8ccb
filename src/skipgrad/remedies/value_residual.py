"""value-residual: each attention's values are mixed with those of the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.finder import Found
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.plan import refusal
from skipgrad.remedies.records import Left
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit import Place, Retrofit, Spot
from skipgrad.remedies.retrofit.design import Design, Make
from skipgrad.remedies.retrofit.places import Calls, traced, unreachable

_ATTENTION = "scaled_dot_product_attention"
VALUE = 2  # the third tensor of the call


class ValueResidual(Retrofit):
    """v ← (1 − λ)·v + λ·v₁ in every attention but the first, with v₁ the first one's values and λ learned.

    It lays hands on the calls of ``scaled_dot_product_attention`` whose values have the shape of the first one's.

    Paper: Zhou et al. 2024, Value residual learning (arXiv:2410.17897), which begins at λ = ½.

    Args:
        start: λ at the start, in [0, 1]. 0 leaves the output as it was.
    """

    name: ClassVar[str] = "value-residual"
    title: ClassVar[str] = "Mix each attention's values with those of the first"
    knobs: ClassVar[Mapping[str, Knob]] = {"start": Span(0.0, 0.5)}

    def __init__(self, start: float = 0.5) -> None:
        if isinstance(start, bool) or not isinstance(start, int | float) or not 0 <= start <= 1:
            raise BadInput(
                "setting up value-residual", where="start", received=repr(start), todo="give a share in [0, 1]"
            )
        self.start = float(start)

    def design(self, graph: SkipGraph) -> Design:
        found = traced(self.name, graph)
        spots, left = _values(graph, found)
        if len(spots) < 2:
            reason = f"{len(spots)} calls of {_ATTENTION} can be reached, and it takes two"
            raise refusal(self.name, reason, left)
        first, *others = spots
        tag = first.place.module or "root"
        edits: list[tuple[Spot, Make]] = [(first, ("FirstValue", {"tag": tag}))]
        edits += [
            (spot, ("MixedValue", {"tag": tag, "start": self.start, "last": spot is others[-1]})) for spot in others
        ]
        return Design(tuple(edits), left=tuple(left), same=self.start == 0)

    def form(self, design: Design) -> tuple[str, str]:
        return "v", "(1 − λ)·v + λ·v₁"


def _values(graph: SkipGraph, found: Found) -> tuple[list[Spot], list[Left]]:
    """The values of each attention, and the skips around attentions that cannot be reached."""
    calls = Calls(found)
    names = {s.name for s in graph.skips}
    spots: list[Spot] = []
    left: list[Left] = []
    taken: set[Place] = set()
    for node in found.trace.nodes:
        if node.op != _ATTENTION:
            continue
        around = [n for n, m in found.matches.items() if n in names and m.branch_nodes >> node.i & 1]
        skips = tuple(around[:1]) or (node.module or "root",)
        shape = found.graph.nodes[node.args[VALUE]].shape if len(node.args) > VALUE else ()
        number: int | str = unreachable(node, VALUE) or calls.number(node, node.module)
        reason = number if isinstance(number, str) else ""
        if not reason:
            assert node.call is not None
            place = Place(node.module, node.call.name, int(number), VALUE + node.shift)
            if spots and shape != spots[0].shape:
                reason = f"its values have the shape {shape}, the first attention's {spots[0].shape}"
            elif place in taken:
                reason = "its module runs several times"
            else:
                taken.add(place)
                spots.append(Spot(skips, "branch", place, shape, None))
        if reason:
            left.append(Left(skips[0], reason))
    return spots, left


REMEDIES.register("value-residual", ValueResidual(), rank=24)
