"""Which skips are long: those whose branch holds another whole skip, or leaves the resolution and comes back to it."""

from __future__ import annotations

from skipgrad.finder.graph import Graph, bits_of, size, union
from skipgrad.finder.records import Match


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
    down = up = False
    for i in bits_of(region & graph.windowed):
        node = graph.nodes[i]
        before, after = graph.nodes[node.args[0]].shape[2:], node.shape[2:]
        # Pooling to 1 x 1 and what comes after it (squeeze and excitation) is a summary, no change of resolution.
        if not before or len(before) != len(after) or all(s == 1 for s in after):
            continue
        down = down or size(after) < size(before)
        up = up or (size(after) > size(before) and not all(s == 1 for s in before))
    return down and up
