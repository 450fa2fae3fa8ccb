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
    nodes = graph.nodes
    windows = {i: change for i in bits_of(region & graph.windowed) if (change := _by_window(nodes, i)) is not None}
    if {before < after for before, after in windows.values()} == {False, True}:
        return True
    indices = {i: change for i in bits_of(region & graph.indexed) if (change := _by_indices(nodes, region, i))}
    # With indices the later op must lie behind the earlier, and come back to as many positions: much else is picked by
    # them, such as the scores of the chosen experts.
    changes = indices | {i: change for i, change in windows.items() if indices and nodes[i].op not in ops.WEAK}
    return any(
        changes[i][0] == changes[j][1] and graph.up[j] >> i & 1 and (i in indices or j in indices)
        for i in changes
        for j in changes
        if i < j
    )


def _by_window(nodes: list[Node], i: int) -> tuple[int, int] | None:
    """How many positions an op takes and returns; None where that is the same, or cannot be compared."""
    before, after = nodes[nodes[i].args[0]].shape[2:], nodes[i].shape[2:]
    # Pooling to 1 x 1 and what comes after it (squeeze and excitation) is a summary, no change of resolution.
    if not before or len(before) != len(after) or all(s == 1 for s in after):
        return None
    if size(after) > size(before) and all(s == 1 for s in before):
        return None
    return _unless_equal(size(before), size(after))


def _by_indices(nodes: list[Node], region: int, i: int) -> tuple[int, int] | None:
    """The same for an op that takes or writes by indices: a sampling of points, an unpooling."""
    node = nodes[i]
    if node.op in ops.GATHERS:
        return _positions(nodes[node.args[0]].shape, node.shape)
    # A write into a tensor of zeros, say: what is written there gets the resolution of that.
    written, into = node.args[-1], nodes[node.args[0]]
    return _positions(nodes[written].shape, node.shape) if region >> written & 1 and into.role != "activation" else None


def _positions(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, int] | None:
    """The sizes of the dimensions that are not the same."""
    first = int(len(before) > 2)  # the first dimension is the batch, unless there is only one beside the channels
    if len(after) == len(before):
        differ = [k for k in range(len(before)) if before[k] != after[k]]
        if all(k < first for k in differ) or (len(before) == 2 and 1 in differ):
            return None
        return _unless_equal(size(tuple(before[k] for k in differ)), size(tuple(after[k] for k in differ)))
    if len(after) != len(before) + 1:
        return None
    # Neighbours of each position, ``(batch, points, channels)`` to ``(batch, centres, neighbours, channels)``: as many
    # positions as there are centres.
    for k in range(first, len(before)):
        if before[:k] == after[:k] and before[k + 1 :] == after[k + 2 :]:
            return _unless_equal(before[k], after[k])
    return None


def _unless_equal(before: int, after: int) -> tuple[int, int] | None:
    return None if before == after else (before, after)
