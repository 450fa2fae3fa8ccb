"""Suggests where a skip could be added: at runs of layers that no skip bridges."""

from __future__ import annotations

import itertools

from skipgrad.core.graph import Suggestion
from skipgrad.core.units import shape, shapes
from skipgrad.finder import ops
from skipgrad.finder.graph import Graph, bits_of
from skipgrad.finder.trace import Node

SPAN = 2  # layers a suggested skip bridges, as He et al. (2015) chose
# A longer run is suggested where two layers change the shape and a few more restore it, so that an identity fits: a
# bottleneck (narrow, convolve, widen), or attention (queries, keys, values, output).
LONGEST = 6


def suggest(graph: Graph, covered: list[int], layers: list[tuple[str, Node]]) -> tuple[Suggestion, ...]:
    """Runs of layers, outside every branch, that a shortcut could bridge: pairs, or more where an identity then fits.

    The fork would be the input of the first layer's module, the merge the output of the last module
    before the activation that follows the last layer (its norm, when there is one).

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
    while i < len(free):
        found = _at(graph, free, i, bridged)
        if found is None:
            i += 1
            continue
        span, end = found
        out.append(_suggestion(graph, free[i], end, span))
        i += span
    return tuple(out)


def _at(graph: Graph, free: list[Node], i: int, bridged: int) -> tuple[int, Node] | None:
    """How many layers from the i-th on a skip would bridge, and the node it would be added to; None where none fits."""
    first = free[i]
    pair: tuple[int, Node] | None = None
    for span in range(SPAN, min(LONGEST, len(free) - i) + 1):
        run = free[i : i + span]
        if not _in_a_row(graph, run) and not _attends(graph, run, bridged):
            continue
        end = _before_activation(graph, run[-1])
        if end is None or not _worth(graph, first, end):
            continue
        if graph.nodes[first.ins[0]].shape == end.shape:
            return span, end
        if span == SPAN:
            pair = span, end
    return pair


def _suggestion(graph: Graph, first: Node, end: Node, span: int) -> Suggestion:
    start = graph.nodes[first.ins[0]]
    same = start.shape == end.shape
    if same:
        how = f"{shape(start.shape)} goes in and comes out, so an identity fits"
    else:
        how = f"the shape changes ({shapes(start.shape, end.shape)}), so the shortcut needs a projection"
    return Suggestion(
        first=first.module,
        last=end.module,
        span=span,
        fork_shape=start.shape,
        merge_shape=end.shape,
        shortcut="identity" if same else "projection",
        reason=f"no skip bridges these {span} layers; {how}",
    )


def _usable(node: Node, bridged: int) -> bool:
    return (
        node.op in ("conv1d", "conv2d", "conv3d", "linear")
        and len(node.ins) == 1
        and bool(node.module)
        and not bridged >> node.i & 1
    )


def _in_a_row(graph: Graph, run: list[Node]) -> bool:
    """Whether each layer's output goes to the next layer only, through ops that take nothing else."""
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


def _attends(graph: Graph, run: list[Node], bridged: int) -> bool:
    """Whether linears side by side on one x meet and leave by the last alone: attention, a gated feed-forward part."""
    x, end = run[0].ins[0], run[-1]
    if any(node.op != "linear" for node in run):
        return False
    # All but the last take x itself; no other weights lie on the way, and nothing of it is used elsewhere.
    if any(node.ins != (x,) for node in run[:-1]) or end.ins == (x,):
        return False
    between = graph.between(x, end.i)
    if between & bridged or between & graph.matrices != sum(1 << node.i for node in run):
        return False
    inner = between & ~(1 << end.i)
    return all(between >> edge.op & 1 for i in bits_of(inner) for edge in graph.consumers[i])


def _before_activation(graph: Graph, layer: Node) -> Node | None:
    """The layer's output, or that of the norm right behind it when that is a module of its own."""
    users = [graph.nodes[edge.op] for edge in graph.consumers[layer.i]]
    if len(users) == 1 and users[0].op in ops.NORMS and users[0].module not in ("", layer.module):
        return users[0]
    # What follows must not be the layer's own module (its output would not be the layer's).
    return layer if all(after.module != layer.module for after in users) else None


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
