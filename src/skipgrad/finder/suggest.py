"""Where a skip could be added: runs of layers that no skip bridges."""

from __future__ import annotations

import itertools

from skipgrad.core.graph import Suggestion
from skipgrad.finder import ops as rules
from skipgrad.finder.graph import Graph
from skipgrad.finder.trace import Node

SPAN = 2  # layers a suggested skip bridges, as He et al. (2015) chose


def suggest(graph: Graph, covered: list[int], layers: list[tuple[str, Node]]) -> tuple[Suggestion, ...]:
    """Pairs of layers in a row, outside every branch, that a shortcut could bridge.

    The fork would be the input of the first layer's module, the merge the output of the last module
    before the activation that follows the second layer (its norm, when there is one).

    Args:
        graph: of the trace.
        covered: bits of the nodes on the branches of existing skips.
        layers: matrix-like calls in order.
    """
    bridged = 0
    for bits in covered:
        bridged |= bits
    calls: dict[str, int] = {}
    for _, node in layers:
        calls[node.module] = calls.get(node.module, 0) + 1
    free = [node for _, node in layers if _usable(node, bridged) and calls[node.module] == 1]
    out: list[Suggestion] = []
    i = 0
    while i + SPAN <= len(free):
        run = free[i : i + SPAN]
        end = _before_activation(graph, run[-1]) if _in_a_row(graph, run) else None
        if end is None or not _worth(graph, run[0], end):
            i += 1
            continue
        start = graph.nodes[run[0].ins[0]]
        same = start.shape == end.shape
        out.append(
            Suggestion(
                first=run[0].module,
                last=end.module,
                span=SPAN,
                fork_shape=start.shape,
                merge_shape=end.shape,
                shortcut="identity" if same else "projection",
            )
        )
        i += SPAN
    return tuple(out)


def _usable(node: Node, bridged: int) -> bool:
    return (
        node.op in ("conv1d", "conv2d", "conv3d", "linear")
        and len(node.ins) == 1
        and bool(node.module)
        and not bridged >> node.i & 1
    )


def _in_a_row(graph: Graph, run: list[Node]) -> bool:
    """Whether each layer feeds the next alone, through ops of one input."""
    for first, second in itertools.pairwise(run):
        i = second.ins[0]
        while i != first.i:
            node = graph.nodes[i]
            if len(node.ins) != 1 or len(graph.consumers[i]) != 1 or node.weight == 2:
                return False
            i = node.ins[0]
        if len(graph.consumers[first.i]) != 1:
            return False
    return True


def _before_activation(graph: Graph, layer: Node) -> Node | None:
    """The layer's output, or that of the norm right behind it when that is a module of its own."""
    users = graph.consumers[layer.i]
    if len(users) != 1:
        return None
    after = graph.nodes[users[0].op]
    if after.op in rules.NORMS and after.module not in ("", layer.module):
        return after
    # What follows must not be the layer's own module (its output would not be the layer's).
    return layer if after.module != layer.module else None


def _worth(graph: Graph, first: Node, end: Node) -> bool:
    """A shortcut must be able to carry the fork to the merge, and the last layer's output must go on."""
    start, stop = graph.nodes[first.ins[0]].shape, end.shape
    if len(start) != len(stop) or start[0] != stop[0] or not graph.nodes[first.ins[0]].floating:
        return False
    if first.op == "linear":
        return start[:-1] == stop[:-1] and bool(graph.consumers[end.i])
    before, after = start[2:], stop[2:]
    if any(b < a for b, a in zip(before, after, strict=True)):
        return False
    strides = {-(-b // a) for b, a in zip(before, after, strict=True)}
    even = len(strides) == 1 and all(-(-b // next(iter(strides))) == a for b, a in zip(before, after, strict=True))
    return even and bool(graph.consumers[end.i]) and start[1] > 3
