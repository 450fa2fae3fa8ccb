"""Turns a trace into skips: a merge, its latest common fork, a linear path and a path with weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from skipgrad.core.graph import Other
from skipgrad.finder import ops as rules
from skipgrad.finder.graph import Edge, Graph, bits_of
from skipgrad.finder.trace import Trace

MAX_SHORTCUT_OPS = 64  # a shortcut of more ops than that is none


@dataclass
class Match:
    """A skip as nodes of the trace.

    Attributes:
        kind: "add", "concat", "gate" or "index".
        merge: the node that ends the merge (the last of a chain of adds).
        parts: all nodes of the merge.
        operands: the operand edges of the merge, in order.
        shortcuts: operand edges that are shortcuts.
        branches: operand edges that are branches.
        sources: the fork: one node, or the group an n-ary concat's newest operand descends from.
        shortcut_nodes: bits of the nodes on the shortcut, the fork left out.
        branch_nodes: bits of the nodes on all branches.
        regions: bits per branch.
        label: the shortcut's class.
    """

    kind: str
    merge: int
    parts: tuple[int, ...]
    operands: tuple[Edge, ...]
    shortcuts: tuple[Edge, ...]
    branches: tuple[Edge, ...]
    sources: tuple[int, ...]
    shortcut_nodes: int
    branch_nodes: int
    regions: tuple[int, ...]
    label: str
    long: bool = False


def match(trace: Trace, graph: Graph | None = None) -> tuple[list[Match], list[Other]]:
    """All skips of a trace, in order of execution of the merges, and the merges that are none."""
    graph = graph or Graph.of(trace)
    nodes = graph.nodes
    inner: set[int] = set()
    merges: list[tuple[str, int, tuple[int, ...], list[Edge]]] = []
    for node in reversed(nodes):
        if node.role != "activation" or node.i in inner:
            continue
        if _is_add(graph, node.i):
            parts, operands = _flatten(graph, node.i, _is_add)
            merges.append(("add", node.i, parts, operands))
            inner.update(parts)
        elif node.cls == "cat":
            same = lambda g, i, dim=node.dim: g.nodes[i].cls == "cat" and g.nodes[i].dim == dim  # noqa: E731
            parts, operands = _flatten(graph, node.i, same)
            merges.append(("concat", node.i, parts, operands))
            inner.update(parts)
        elif node.cls in ("lerp", "unpool") and node.floating:
            edges = [Edge(node.i, p) for p in range(len(node.args)) if nodes[node.args[p]].role == "activation"]
            merges.append(("gate" if node.cls == "lerp" else "index", node.i, (node.i,), edges))
        elif node.op == "mul" and len(node.ins) > 1:
            edges = [Edge(node.i, p) for p in range(len(node.args)) if nodes[node.args[p]].role == "activation"]
            merges.append(("product", node.i, (node.i,), edges))
    merges.reverse()
    found: list[Match] = []
    others: list[Other] = []
    gated: set[int] = set()
    products: list[tuple[int, list[Edge]]] = []
    for kind, end, parts, operands in merges:
        if kind == "product":
            products.append((end, operands))
            continue
        skip = _skip_at(graph, kind, end, parts, operands, gated)
        if skip is not None:
            found.append(skip)
        else:
            other = _other(graph, kind, end, operands)
            if other is not None:
                others.append(other)
    for end, operands in products:
        other = _gate(graph, end, operands) if end not in gated else None
        if other is not None:
            others.append(other)
    _mark_long(graph, found)
    return found, others


# -- merges ----------------------------------------------------------------------------------------


def _is_add(graph: Graph, i: int) -> bool:
    node = graph.nodes[i]
    if not node.floating or node.role != "activation":
        return False
    return node.cls == "add" or (node.op == "sum" and node.batched)


def _value(graph: Graph, edge: Edge) -> int:
    return graph.nodes[edge.op].args[edge.pos]


def _flatten(graph: Graph, end: int, same: Callable[[Graph, int], bool]) -> tuple[tuple[int, ...], list[Edge]]:
    """A chain of like merges, each used by the next alone, is one merge: its nodes and its operands."""
    nodes = graph.nodes
    parts = [end]
    operands: list[Edge] = []
    stack_parts: list[int] = []

    def visit(i: int) -> None:
        node = nodes[i]
        if node.op == "sum" and node.batched:  # stack(...).sum()
            stack = node.ins[0]
            stack_parts.append(stack)
            node = nodes[stack]
        for pos, j in enumerate(node.args):
            child = nodes[j]
            if child.role != "activation":
                continue
            alike = nodes[end].cls == "cat" or (child.shape == nodes[end].shape and not _apart(graph, node.i, pos))
            if alike and len(graph.consumers[j]) == 1 and same(graph, j):
                parts.append(j)
                visit(j)
            else:
                operands.append(Edge(node.i, pos))

    visit(end)
    return tuple(sorted({*parts, *stack_parts})), operands


def _apart(graph: Graph, i: int, pos: int) -> bool:
    """Whether the add at argument `pos` of add `i` is a skip of its own, which a skip with an earlier fork goes around.

    ``x + blocks(x)`` where the last block ends in an add: two skips, not a chain. ``x + a(x) + b(x)`` is a chain.
    """
    nodes = graph.nodes
    inner = nodes[i].args[pos]
    own = [Edge(inner, k) for k, j in enumerate(nodes[inner].args) if nodes[j].role == "activation"]
    forks = [p[0] for a in own for b in own if a != b and (p := _pair(graph, "add", inner, a, b)) is not None]
    if not forks:
        return False
    branch = Edge(i, pos)
    others = [Edge(i, k) for k, j in enumerate(nodes[i].args) if k != pos and nodes[j].role == "activation"]
    around = [p[0] for a in others if (p := _pair(graph, "add", i, a, branch)) is not None]
    return any(f < max(forks) for f in around)


def _skip_at(
    graph: Graph, kind: str, end: int, parts: tuple[int, ...], operands: list[Edge], gated: set[int]
) -> Match | None:
    if kind == "index":
        return _index(graph, end, operands)
    if kind == "gate":  # lerp(x, F, w): a gate when w is computed from activations
        weight = operands[2] if len(operands) == 3 else None
        kind = "gate" if weight is not None else "add"
        operands = operands[:2]
    elif kind == "add":
        data = _gate_operands(graph, operands)
        if data is not None:
            kind, gate_ops, operands = "gate", [_value(graph, e) for e in operands], data
            skip = _best(graph, kind, end, parts, operands)
            if skip is not None:
                gated.update(gate_ops)
                return skip
            return None
    if len(operands) < 2:
        return None
    return _best(graph, kind, end, parts, operands)


def _best(graph: Graph, kind: str, end: int, parts: tuple[int, ...], operands: list[Edge]) -> Match | None:
    """The pairs of operands that are shortcut and branch; those with the latest fork make the skip."""
    pairs: list[tuple[int, Edge, Edge, int, int, str]] = []
    newest = max(operands, key=lambda e: _value(graph, e))
    for a in operands:
        for b in operands:
            if a is b or (kind == "concat" and len(operands) > 8 and newest not in (a, b)):
                continue
            pair = _pair(graph, kind, end, a, b)
            if pair is not None:
                pairs.append(pair)
    if not pairs:
        return None
    if kind == "concat" and len(operands) > 2:
        to_newest = [p for p in pairs if p[2] == newest]
        if to_newest:
            chosen = to_newest
        else:
            fork = max(p[0] for p in pairs)
            chosen = [p for p in pairs if p[0] == fork]
    else:
        fork = max(p[0] for p in pairs)
        chosen = [p for p in pairs if p[0] == fork]
        # One shortcut: the operand most directly made from the fork.
        shortest = min(chosen, key=lambda p: (p[3].bit_count(), p[1].pos))[1]
        chosen = [p for p in chosen if p[1] == shortest]
    shortcuts = tuple(dict.fromkeys(p[1] for p in chosen))
    branches = tuple(dict.fromkeys(p[2] for p in chosen))
    # What made one source of a group out of another is not on the branch that bypasses the group.
    made = _or(graph.up[p[0]] for p in chosen)
    regions = tuple(_or(p[4] for p in chosen if p[2] == b) & ~made for b in branches)
    # Taken from a split of the fork, even an identity carries a slice of it.
    labels = ["slice" if p[5] == "identity" and _unsplit(graph, p[0]) != p[0] else p[5] for p in chosen]
    order = ["projection", "pool", "resample", "slice", "scaled", "identity"]
    return Match(
        kind=kind,
        merge=end,
        parts=parts,
        operands=tuple(operands),
        shortcuts=shortcuts,
        branches=branches,
        sources=tuple(dict.fromkeys(_unsplit(graph, p[0]) for p in chosen)),
        shortcut_nodes=_or(p[3] for p in chosen),
        branch_nodes=_or(regions),
        regions=regions,
        label=min(labels, key=order.index),
    )


def _or(values: Iterable[int]) -> int:
    out = 0
    for v in values:
        out |= v
    return out


def _unsplit(graph: Graph, x: int) -> int:
    """The value a split op took apart: ``x`` of ``a, b = x.chunk(2)``."""
    node = graph.nodes[x]
    while len(node.ins) == 1 and (
        node.op in rules.SPLITS or (node.op == "output" and graph.nodes[node.ins[0]].op in rules.SPLITS)
    ):
        node = graph.nodes[node.ins[0]]
    return node.i


def _pair(graph: Graph, kind: str, end: int, a: Edge, b: Edge) -> tuple[int, Edge, Edge, int, int, str] | None:
    """(fork, shortcut edge, branch edge, shortcut bits, branch bits, label) when a is a shortcut past b."""
    va, vb = _value(graph, a), _value(graph, b)
    if va == vb:
        return None
    if kind == "add" and _smaller(graph, va, end):
        return None  # a broadcast shortcut is an injection
    x = graph.common(va, vb)
    if x is None or x == vb:
        return None
    branch = graph.between(x, vb)
    heavy = (branch & graph.weighted).bit_count()
    if heavy == 0:
        return None
    short = graph.between(x, va)
    label = _shortcut(graph, x, short, kind)
    if label is None:
        return None
    if heavy <= (short & graph.weighted).bit_count():
        return None
    return (x, a, b, short, branch, label)


def _smaller(graph: Graph, value: int, end: int) -> bool:
    size = 1
    for s in graph.nodes[value].shape:
        size *= s
    whole = 1
    for s in graph.nodes[end].shape:
        whole *= s
    return size < whole


def _shortcut(graph: Graph, x: int, bits: int, kind: str) -> str | None:
    """The class of the path whose nodes are `bits`, or None when it is no shortcut."""
    if bits.bit_count() > MAX_SHORTCUT_OPS:
        return None
    nodes = graph.nodes
    inside = bits | 1 << x
    label, matrices, learned = "identity", 0, 0
    rank = ["identity", "scaled", "slice", "resample", "pool", "projection"]
    for i in bits_of(bits):
        node = nodes[i]
        on_path = [j for j in node.args if inside >> j & 1]
        if node.cls in ("nonlinear", "constant", "unpool", "lerp"):
            return None
        if (node.cls == "matrix" or node.op in ("mul", "div")) and len(on_path) > 1:
            return None
        if any(inside >> k & 1 for j in node.args for k in nodes[j].looked):
            return None  # masked by its own values: no longer linear
        if node.op == "div" and node.args and node.args[0] not in on_path:
            return None
        if node.op in ("rdiv",):
            return None
        if node.cls == "pool" and kind == "concat" and node.op not in ("sum",):
            return None  # pooling beside other branches is a branch among branches
        if node.cls == "matrix":
            matrices += 1
            if node.weight != 2 and node.op not in ("matmul", "einsum", "bmm", "mm"):
                return None
        elif node.weight == 1:
            learned += 1
        cls = {"matrix": "projection", "add": "identity", "cat": "slice", "stack": "identity"}.get(node.cls, node.cls)
        if node.op == "getitem" and _size(node.shape) == _size(nodes[node.args[0]].shape):
            cls = "identity"  # ``x[None]``
        if cls in rank and rank.index(cls) > rank.index(label):
            label = cls
    if matrices > 1 or learned > 1:
        return None
    return label


def _index(graph: Graph, end: int, operands: list[Edge]) -> Match | None:
    """SegNet: the pooling indices of the encoder meet the decoder's features in an unpooling."""
    if len(operands) < 2:
        return None
    data, indices = operands[0], operands[1]
    pool = _value(graph, indices)
    while graph.nodes[pool].op == "output" or graph.nodes[pool].cls == "identity":
        pool = graph.nodes[pool].ins[0]
    branch = graph.between(pool, _value(graph, data))
    if graph.nodes[pool].cls != "pool" or not branch & graph.weighted:
        return None
    return Match(
        kind="index", merge=end, parts=(end,), operands=(data, indices), shortcuts=(indices,), branches=(data,),
        sources=(graph.nodes[pool].ins[0],), shortcut_nodes=1 << pool, branch_nodes=branch, regions=(branch,),
        label="pool",
    )  # fmt: skip


def _gate_operands(graph: Graph, operands: list[Edge]) -> list[Edge] | None:
    """The data operands of ``g*F + (1-g)*x``; None when the add is not of that form."""
    if len(operands) != 2:
        return None
    nodes = graph.nodes
    products = [_through_views(graph, _value(graph, e)) for e in operands]
    if any(nodes[p].op != "mul" or len(nodes[p].ins) < 2 for p in products):
        return None
    p, q = products
    for pa in range(2):
        for qa in range(2):
            g, h = nodes[p].args[pa], nodes[q].args[qa]
            if _complement(graph, h, g) or _complement(graph, g, h):
                return [Edge(p, 1 - pa), Edge(q, 1 - qa)]
    return None


def _through_views(graph: Graph, i: int) -> int:
    node = graph.nodes[i]
    while node.cls == "identity" and len(node.ins) == 1:
        node = graph.nodes[node.ins[0]]
    return node.i


def _complement(graph: Graph, h: int, g: int) -> bool:
    """Whether h is ``1 - g``."""
    node = graph.nodes[_through_views(graph, h)]
    return (node.op in ("rsub", "sub") and node.ins == (_through_views(graph, g),)) or (
        node.op in ("rsub", "sub") and node.ins == (g,)
    )


def _mark_long(graph: Graph, found: list[Match]) -> None:
    nodes = graph.nodes
    for m in found:
        sources = _or(tuple(1 << s for s in m.sources))
        for region in m.regions:
            if any(_holds(region, sources, other) for other in found if other is not m):
                m.long = True
                break
            down = up = False
            for i in bits_of(region):
                node = nodes[i]
                windowed = node.cls in ("pool", "resample", "unpool") or node.op.startswith("conv")
                if not windowed or not node.args:
                    continue
                before, after = nodes[node.args[0]].shape[2:], node.shape[2:]
                if not before or len(before) != len(after) or all(s == 1 for s in after):
                    continue
                down = down or (_size(after) < _size(before) and node.cls != "resample")
                up = up or (_size(after) > _size(before) and not all(s == 1 for s in before))
            if down and up:
                m.long = True
                break


def _holds(region: int, sources: int, other: Match) -> bool:
    """Whether a region holds another whole skip: merge and branch in it, a fork in it or shared with it."""
    start = _or(1 << s for s in other.sources)
    return bool(region >> other.merge & 1 and (region | sources) & start and not other.branch_nodes & ~region)


def _size(shape: tuple[int, ...]) -> int:
    out = 1
    for s in shape:
        out *= s
    return out


# -- merges that are no skips ----------------------------------------------------------------------


def _other(graph: Graph, kind: str, end: int, operands: list[Edge]) -> Other | None:
    node = graph.nodes[end]
    name = node.module or "root"
    values = [_value(graph, e) for e in operands]
    if kind == "add":
        learned = [j for j in node.args if graph.nodes[j].role == "param"]
        broadcast = [v for v in values if len(values) > 1 and _smaller(graph, v, end)]
        if learned and len(graph.nodes[learned[0]].shape) > 1:
            return Other(name, "injection", "adds a learned tensor (a position or a bias), not an activation")
        if broadcast:
            return Other(name, "injection", "one operand is broadcast over the other (conditioning, position or bias)")
    if len(values) < 2:
        return None
    heavy = 0
    for v in values:
        x = max((c for c in (graph.common(v, w) for w in values if w != v) if c is not None), default=None)
        if x is not None and graph.between(x, v) & graph.weighted:
            heavy += 1
    if heavy >= 2:
        verb = "are added" if kind == "add" else "are concatenated"
        return Other(name, "parallel", f"{len(values)} branches {verb}; none of them is a shortcut")
    return None


def _gate(graph: Graph, end: int, operands: list[Edge]) -> Other | None:
    values = [_value(graph, e) for e in operands]
    if len(set(values)) < 2:
        return None
    x = graph.common(values[0], values[1])
    if x is None or not any(graph.between(x, v) & graph.weighted for v in values):
        return None
    return Other(graph.nodes[end].module or "root", "gate", "a product of two paths (gate), with no additive shortcut")
