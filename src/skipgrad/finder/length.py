"""Which skips are long: those whose branch holds another whole skip, or leaves the resolution and comes back to it."""

from __future__ import annotations

from skipgrad.finder import ops
from skipgrad.finder.graph import Graph, bits_of, size, union
from skipgrad.finder.records import Match
from skipgrad.finder.trace import Node


def mark_long(graph: Graph, found: list[Match]) -> None:
    """Marks the skips whose branch holds another whole skip, or leaves the resolution and comes back."""
    ends = {m.merge: m for m in found}
    merges = union(1 << end for end in ends)
    forks = {m.merge: union(1 << s for s in m.sources) for m in found}
    for m in found:
        for sources, region in m.pairs or ((forks[m.merge], m.branch_nodes),):
            # The branch holds another skip when it holds the other's merge, its whole branch, and its fork; the other's
            # fork may also be the fork of this skip.
            if m.long or any(
                not ends[end].branch_nodes & ~region and (region | sources | forks[m.merge]) & forks[end]
                for end in bits_of(region & merges)
            ):
                m.long = True
                break
            if _there_and_back(graph, region):
                m.long = True
                break


def _there_and_back(graph: Graph, region: int) -> bool:
    """Whether one op of a branch lowers the resolution and another raises it."""
    by_windows = {i: _by_window(graph.nodes, i) for i in bits_of(region & graph.windowed)}
    if {-1, 1} <= set(by_windows.values()):
        return True
    by_indices = {_by_indices(graph.nodes, region, i) for i in bits_of(region & graph.indexed)} - {0}
    if not by_indices:
        return False
    return {-1, 1} <= by_indices | {way for i, way in by_windows.items() if graph.nodes[i].op not in ops.WEAK}


def _by_window(nodes: list[Node], i: int) -> int:
    """-1 where an op lowers the resolution of what it takes, 1 where it raises it, 0 where it leaves it."""
    before, after = nodes[nodes[i].args[0]].shape[2:], nodes[i].shape[2:]
    # Pooling to 1 x 1 and what comes after it (squeeze and excitation) is a summary, no change of resolution.
    if not before or len(before) != len(after) or all(s == 1 for s in after):
        return 0
    if size(after) > size(before) and all(s == 1 for s in before):
        return 0
    return _sign(size(after) - size(before))


def _by_indices(nodes: list[Node], region: int, i: int) -> int:
    """The same for an op that takes or writes by indices: a sampling of points, an unpooling."""
    node = nodes[i]
    if node.op in ops.GATHERS:
        return _finer(nodes[node.args[0]].shape, node.shape)
    # A write into a tensor of zeros, say: what is written there gets the resolution of that.
    written, into = node.args[-1], nodes[node.args[0]]
    return _finer(nodes[written].shape, node.shape) if region >> written & 1 and into.role != "activation" else 0


def _finer(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """-1 where there are fewer positions after than before, 1 where there are more."""
    if len(after) == len(before):
        if before[1:] == after[1:] and len(before) > 2:
            return 0  # a part of the batch
        return _sign(size(after) - size(before))
    if len(after) != len(before) + 1:
        return 0
    # Neighbours of each position, ``(batch, points, channels)`` to ``(batch, centres, neighbours, channels)``: as many
    # positions as there are centres.
    for k in range(len(before) > 2, len(before)):
        if before[:k] == after[:k] and before[k + 1 :] == after[k + 2 :]:
            return _sign(after[k] - before[k])
    return 0


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
