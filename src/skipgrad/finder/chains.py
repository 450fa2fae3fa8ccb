"""Chains of adds, and chains of concats: several merges in a row that count as one merge of many operands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from skipgrad.finder import ops
from skipgrad.finder.graph import Edge, Graph
from skipgrad.finder.pairs import pair_of

# Each operand is tried as a shortcut past each other one. In a sum of more operands than this only the first few are.
MANY = 24


@dataclass(frozen=True)
class Chain:
    """Merges of the same class, the result of each used only by the next: together they count as one merge.

    Attributes:
        parts: the nodes of the chain.
        operands: the edges that lead into the chain, in order.
        factors: operand → the number it is multiplied by on its way into the sum, where that is not 1.
    """

    parts: tuple[int, ...]
    operands: tuple[Edge, ...]
    factors: dict[Edge, float]


def operands_of(graph: Graph, i: int) -> list[Edge]:
    """The edges by which a merge takes activations; for ``stack(...).sum()`` those of the stack."""
    node = graph.nodes[i]
    if node.batched:
        node = graph.nodes[node.ins[0]]
    whole = node.cls == "unpool"  # its indices are whole numbers
    nodes = graph.nodes
    return [Edge(node.i, k) for k, j in enumerate(node.args) if j in node.ins and (whole or nodes[j].floating)]


def alone(graph: Graph, i: int) -> Chain:
    """A merge that is in no chain, as a chain of one."""
    return Chain((i,), tuple(operands_of(graph, i)), {})


def passes(graph: Graph, i: int) -> bool:
    """Whether an add passes its one activation on: whatever else it adds does not descend from the input."""
    return graph.nodes[i].cls != "cat" and len(operands_of(graph, i)) < 2


def is_add(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    if not node.floating or node.role != "activation":
        return False
    return node.cls == "add" or node.batched


def chains_of(graph: Graph) -> dict[int, Chain]:
    """For each add and concat, in order of execution, the chain that ends there."""
    chains: dict[int, Chain] = {}
    forks: dict[int, int] = {}
    # In order of execution, so that the chains of a merge's operands are known when the merge is reached.
    for node in graph.nodes:
        add = is_add(graph, node.i)
        if not add and not (node.cls == "cat" and node.role == "activation"):
            continue
        uses = operands_of(graph, node.i)
        parts, factors, groups = [node.i], {}, []
        if node.batched:
            parts.append(node.ins[0])
        for edge in uses:
            j = graph.value(edge)
            factor = _factor(graph, edge) / (len(uses) if node.op == "mean" else 1) if add else 1.0
            inner = chains.get(j)
            linked = inner is not None and len(graph.consumers[j]) == 1
            if inner is not None and linked and _links(graph, node.i, edge, uses, chains, forks):
                parts += inner.parts
                groups.append(inner)
                factors.update({e: factor * inner.factors.get(e, 1.0) for e in inner.operands})
            else:
                groups.append(Chain((), (edge,), {}))
                factors[edge] = factor
        factors = {e: f for e, f in factors.items() if f != 1.0}
        operands = tuple(e for g in groups for e in g.operands)
        chains[node.i] = Chain(tuple(sorted(set(parts))), operands, factors)
        if add:
            forks[node.i] = _latest_fork(graph, node.i, groups, forks)
    return chains


def _latest_fork(graph: Graph, end: int, groups: list[Chain], forks: dict[int, int]) -> int:
    """The latest fork from which two operands of an add are shortcut and branch; -1 when no two are."""
    # Pairs within one link were tried when that link was an add of its own, so only pairs across links remain.
    latest = max((forks[g.parts[-1]] for g in groups if g.parts), default=-1)
    first = likely_shortcuts(graph, [e for g in groups for e in g.operands])
    for one, other in itertools.permutations(groups, 2):
        for a in first.intersection(one.operands):
            for b in other.operands:
                pair = pair_of(graph, "add", end, a, b)
                if pair is not None:
                    latest = max(latest, pair.fork)
    return latest


def likely_shortcuts(graph: Graph, operands: Sequence[Edge]) -> set[Edge]:
    """The operands worth trying as a shortcut: all, or in a very long sum the eight that were computed first."""
    if len(operands) <= MANY:
        return set(operands)
    return set(sorted(operands, key=graph.value)[:8])


def _factor(graph: Graph, edge: Edge) -> float:
    """The number an add multiplies an operand by: 1, or for the second tensor ``alpha`` (negated in a subtraction)."""
    node = graph.nodes[edge.op]
    second = len(node.args) - 1 if node.op in ops.INDEXED_ADDS else node.second
    if node.cls != "add" or edge.pos + node.shift != second:
        return 1.0
    return -node.number if node.op in ("sub", "rsub") else node.number


def _links(graph: Graph, i: int, edge: Edge, uses: list[Edge], chains: dict[int, Chain], forks: dict[int, int]) -> bool:
    """Whether the merge at operand `edge` of merge `i` is a link of its chain, rather than a merge of its own."""
    nodes = graph.nodes
    node, child = nodes[i], nodes[graph.value(edge)]
    if node.cls == "cat":
        return child.cls == "cat" and child.dim == node.dim
    if child.cls == "cat" or child.shape != node.shape:
        return False
    others = [e for u in uses if u != edge for e in (_around(chains, graph, u))]
    return not others or not _apart(graph, child.i, chains[child.i], forks[child.i], edge, others)


def _around(chains: dict[int, Chain], graph: Graph, use: Edge) -> tuple[Edge, ...]:
    """An operand; and, where it is a chain of adds that nobody else uses, the operands of that chain.

    A sum that is used elsewhere too, as the stream that a block reads, is a value like any other: what it was made of
    says nothing about the adds behind it.
    """
    value = graph.value(use)
    chain = chains.get(value)
    if chain is None or graph.nodes[value].cls == "cat" or len(graph.consumers[value]) > 1:
        return (use,)
    return (use, *chain.operands)


def _apart(graph: Graph, end: int, inner: Chain, latest: int, edge: Edge, others: list[Edge]) -> bool:
    """Whether the add `end`, an operand of another, is a skip of its own and no link of a chain.

    ``x + blocks(x)`` where the last block ends in an add: two skips, for the outer one has an earlier fork and goes
    around the inner. Likewise where the other operands have nothing to do with the inner fork: two towers, added up.
    ``x + a(x) + b(x)`` is a chain.
    """
    if gate_operands(graph, inner.operands) is not None:
        return True
    if latest < 0:
        return False
    around = [p.fork for a in others if (p := pair_of(graph, "add", end, a, edge)) is not None]
    if any(f < latest for f in around):
        return True
    return not any(
        pair_of(graph, "add", end, a, b) is not None or pair_of(graph, "add", end, b, a) is not None
        for a in others
        for b in inner.operands
    )


def gate_operands(graph: Graph, operands: tuple[Edge, ...]) -> tuple[Edge, ...] | None:
    """The data operands of ``g*F + (1-g)*x``; None when the add is not of that form."""
    if len(operands) != 2:
        return None
    nodes = graph.nodes
    products = [_through_views(graph, graph.value(e)) for e in operands]
    if any(nodes[p].op != "mul" or len(nodes[p].ins) < 2 for p in products):
        return None
    p, q = products
    for pa in range(2):
        for qa in range(2):
            g, h = nodes[p].args[pa], nodes[q].args[qa]
            if _complement(graph, h, g) or _complement(graph, g, h):
                return Edge(p, 1 - pa), Edge(q, 1 - qa)
    return None


def _through_views(graph: Graph, i: int) -> int:
    node = graph.nodes[i]
    while node.cls == "identity" and len(node.ins) == 1:
        node = graph.nodes[node.ins[0]]
    return node.i


def _complement(graph: Graph, h: int, g: int) -> bool:
    """Whether h is ``1 - g``."""
    node, gate = graph.nodes[_through_views(graph, h)], _through_views(graph, g)
    if len(node.ins) != 1:
        return False
    inside = graph.nodes[_through_views(graph, node.ins[0])]
    if node.op == "add":  # -g + 1
        return node.scalar == 1 and inside.op == "neg" and _through_views(graph, inside.ins[0]) == gate
    if inside.i != gate:
        return False
    if node.op == "rsub":
        return node.scalar in (1, None)
    return node.op == "sub" and node.scalar is None and node.args[-1] in node.ins  # ones - g
