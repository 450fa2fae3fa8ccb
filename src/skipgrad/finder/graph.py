"""A trace as a graph: which ops use a value, which values are its ancestors, where two paths part.

The ancestors of a node are one Python integer, in which bit i is set when node i is an ancestor; its descendants are
another. So "the latest activation from which both operands descend" is the highest bit of an *and* of two integers,
and "the ops between two nodes" are the bits of an *and* as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from skipgrad.finder import ops
from skipgrad.finder.trace import Node, Trace


class Edge(NamedTuple):
    """One use of a value: it is argument `pos` of node `op`, where only tensor arguments are counted."""

    op: int
    pos: int


@dataclass
class Graph:
    """A trace with what the matcher derives from it.

    Attributes:
        consumers: per node, the edges that use it.
        up: per node, itself and its ancestors as bits.
        down: per node, itself and its descendants as bits.
        floats: bits of the floating-point activations.
        weighted: bits of the weighted ops.
        matrices: bits of the matrix-like ones.
        windowed: bits of the ops that may change the resolution.
        indexed: bits of the ops that may change it by indices.
    """

    nodes: list[Node]
    consumers: list[list[Edge]] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    floats: int = 0
    weighted: int = 0
    matrices: int = 0
    windowed: int = 0
    indexed: int = 0

    @classmethod
    def of(cls, trace: Trace) -> Graph:
        """Derives the graph of a trace."""
        nodes = trace.nodes
        graph = cls(nodes, [[] for _ in nodes], [0] * len(nodes), [0] * len(nodes))
        floats = weighted = matrices = windowed = 0
        # Nodes are in order of execution: forwards, a node's ancestors are complete before it is reached; backwards,
        # its descendants are.
        for node in nodes:
            bits = 1 << node.i
            if node.role == "activation":
                for j in node.ins:
                    bits |= graph.up[j]
                for pos, j in enumerate(node.args):
                    if j in node.ins:
                        graph.consumers[j].append(Edge(node.i, pos))
                if node.floating:
                    floats |= 1 << node.i
                if node.weight:
                    weighted |= 1 << node.i
                if node.weight == 2:
                    matrices |= 1 << node.i
                if node.args and (node.cls in ("pool", "resample", "unpool") or node.op.startswith("conv")):
                    windowed |= 1 << node.i
                if node.op in ops.GATHERS | ops.WRITES and len(node.args) > 1 + (node.op in ops.WRITES):
                    graph.indexed |= 1 << node.i
            graph.up[node.i] = bits
        for node in reversed(nodes):
            if not graph.consumers[node.i] and node.cls in ("identity", "slice"):
                # A view nobody reads (of a tensor that is written to through it, say) is no use of what it views.
                for j in node.ins:
                    graph.consumers[j] = [e for e in graph.consumers[j] if e.op != node.i]
            bits = 1 << node.i
            for edge in graph.consumers[node.i]:
                bits |= graph.down[edge.op]
            graph.down[node.i] = bits
        graph.floats, graph.weighted, graph.matrices, graph.windowed = floats, weighted, matrices, windowed
        return graph

    def value(self, edge: Edge) -> int:
        """The node whose value an edge takes."""
        return self.nodes[edge.op].args[edge.pos]

    def common(self, a: int, b: int) -> int | None:
        """The latest floating-point activation from which both nodes descend; a node counts as its own ancestor."""
        bits = self.up[a] & self.up[b] & self.floats
        return bits.bit_length() - 1 if bits else None

    def between(self, x: int, y: int) -> int:
        """Bits of the nodes on paths from x to y, y included and x left out."""
        return self.up[y] & self.down[x] & ~(1 << x)


def bits_of(bits: int) -> Iterator[int]:
    """The positions of the bits that are set, in ascending order."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def union(values: Iterable[int]) -> int:
    """The *or* of sets of bits."""
    out = 0
    for v in values:
        out |= v
    return out


def size(shape: tuple[int, ...]) -> int:
    """Number of values in a tensor of that shape."""
    return math.prod(shape)
