"""The route of a plan: what the calls it names looked like in a trace."""

from __future__ import annotations

from collections.abc import Collection

from skipgrad.finder.trace import Trace
from skipgrad.instrument.calls import Address, Look, Route


def route_of(trace: Trace, calls: Collection[Address]) -> Route:
    """The route over the calls of a trace that a plan names."""
    names = {call.name for call in calls}
    ranks: dict[Address, dict[int, int]] = {call: {} for call in calls}
    before: dict[Address, int] = {}
    turns: dict[Address, int] = {}
    given: dict[Address, int] = {}
    passed, last = 0, None
    for node in trace.nodes:
        if node.call is None or node.call.name not in names:
            continue
        if node.call != last:
            passed, last = passed + 1, node.call
        if node.call not in ranks or node.op == "output":
            continue
        turns.setdefault(node.call, len(turns))
        before[node.call], given[node.call] = passed - 1, node.given
        for pos, j in enumerate(node.args):
            if pos < node.real:
                ranks[node.call][pos + node.shift] = len(trace.nodes[j].shape)
    looks = {call: Look(before.get(call, 0), turns.get(call, 0), given.get(call, 0), ranks[call]) for call in ranks}
    return Route({name: trace.calls[name] for name in names}, looks)
