"""Turns a trace into skips.

A skip is a merge, the latest fork that two of its operands share, and the two paths between them: a shortcut (linear
in the fork) and a branch (with weights).
"""

from __future__ import annotations

from skipgrad.core.graph import Other
from skipgrad.finder import ops
from skipgrad.finder.chains import Chain, alone, chains_of, gate_operands, likely_shortcuts, operands_of, passes
from skipgrad.finder.graph import Edge, Graph, bits_of, size, union
from skipgrad.finder.length import mark_long
from skipgrad.finder.pairs import Pair, pair_of, smaller
from skipgrad.finder.records import Match
from skipgrad.finder.trace import Trace


def match(trace: Trace, graph: Graph | None = None) -> tuple[list[Match], list[Other]]:
    """All skips of a trace, in order of execution of their merges; and the merges that are no skips."""
    graph = graph or Graph.of(trace)
    nodes = graph.nodes
    chains = chains_of(graph)
    inner: set[int] = set()
    merges: list[tuple[str, int, Chain]] = []
    # Backwards, because the last add of a chain names all its parts: the earlier ones are then known to be inner.
    for node in reversed(nodes):
        if node.role != "activation" or node.i in inner:
            continue
        if node.i in chains:
            chain = chains[node.i]
            if len(chain.operands) < 2 or passes(
                graph, node.i
            ):  # ``0 + x`` of Python's sum, or a bias: the add below it is a merge of its own, not a part of this one
                chain = Chain((node.i,), tuple(operands_of(graph, node.i)), {})
            merges.append(("concat" if node.cls == "cat" else "add", node.i, chain))
            inner.update(chain.parts)
        elif node.cls in ("lerp", "unpool") and node.floating:
            merges.append(("gate" if node.cls == "lerp" else "index", node.i, alone(graph, node.i)))
        elif node.op == "mul" and len(node.ins) > 1:
            merges.append(("product", node.i, alone(graph, node.i)))
    merges.reverse()
    found: list[Match] = []
    others: list[Other] = []
    gated: set[int] = set()
    # Products wait until all adds are matched: only then is it known which of them are the two halves of a gate.
    products: list[tuple[int, Chain]] = []
    for kind, end, chain in merges:
        if kind == "product":
            products.append((end, chain))
            continue
        skip = _skip_at(graph, kind, end, chain, gated)
        if skip is not None:
            found.append(skip)
        else:
            other = _other(graph, kind, end, chain.operands)
            if other is not None:
                others.append(other)
    for end, chain in products:
        other = _gate(graph, end, chain.operands) if end not in gated else None
        if other is not None:
            others.append(other)
    mark_long(graph, found)
    return found, others


def _skip_at(graph: Graph, kind: str, end: int, chain: Chain, gated: set[int]) -> Match | None:
    operands = chain.operands
    if kind == "index":
        return _index(graph, end, operands)
    if kind == "gate":  # lerp(x, F, w): a gate when w is computed from activations, else 1 - w of x and w of F
        weight = Edge(end, graph.nodes[end].second)
        kind, operands = "gate" if weight in operands else "add", tuple(e for e in operands if e != weight)
        chain = Chain(chain.parts, operands, dict.fromkeys(operands, 0.5) if kind == "add" else {})
    elif kind == "add":
        data = gate_operands(graph, operands)
        if data is not None:
            products = [graph.value(e) for e in operands]
            skip = _best(graph, "gate", end, Chain(chain.parts, data, chain.factors))
            if skip is not None:
                gated.update(products)
            return skip
    if len(operands) < 2:
        return None
    return _best(graph, kind, end, chain)


_LABELS = ("projection", "pool", "resample", "slice", "scaled", "identity")


def _best(graph: Graph, kind: str, end: int, chain: Chain) -> Match | None:
    """The skip at a merge, made of pairs of operands; None when no two of them are shortcut and branch."""
    operands = chain.operands
    newest = max(operands, key=graph.value)
    # A dense block concatenates ever longer lists. Trying all pairs of each would take time cubic in its layers, so of
    # a long list only pairs with the newest operand are tried.
    many = kind == "concat" and len(operands) > 8
    pairs: list[Pair] = []
    first = likely_shortcuts(graph, operands) if kind == "add" else operands
    for a in operands:
        if a not in first:
            continue
        for b in operands if not many or a == newest else (newest,):
            pair = pair_of(graph, kind, end, a, b) if a is not b else None
            if pair is not None:
                pairs.append(pair)
    if not pairs:
        return None
    # In a dense block every operand is a branch past the older ones. The skip is the newest operand's; each older
    # operand had its turn at an earlier concatenation.
    to_newest = [p for p in pairs if p.branch == newest] if kind == "concat" and len(operands) > 2 else []
    chosen = to_newest or _together(pairs)
    if kind == "add":
        chosen += _alike(pairs, chosen)
    shortcuts = tuple(dict.fromkeys(p.shortcut for p in chosen))
    branches = tuple(dict.fromkeys(p.branch for p in chosen))
    regions = tuple(_region(graph, [p for p in chosen if p.branch == b]) for b in branches)
    labels = [_label(graph, p, chain) for p in chosen]
    return Match(
        kind=kind,
        merge=end,
        parts=chain.parts,
        operands=operands,
        shortcuts=shortcuts,
        branches=branches,
        sources=tuple(dict.fromkeys(_unsplit(graph, p.fork) for p in chosen)),
        shortcut_nodes=union(p.short for p in chosen),
        branch_nodes=union(regions),
        regions=regions,
        # x that is added twice carries 2x.
        label=min([*labels, "scaled"] if kind == "add" and len(shortcuts) > 1 else labels, key=_LABELS.index),
        pairs=_lengths(graph, kind, pairs, chosen, regions, operands),
    )


def _together(pairs: list[Pair]) -> list[Pair]:
    """The pairs of the shortcut that bypasses most operands from one fork.

    Where several bypass as many, the one with the latest fork is taken, then the one with the fewest ops.
    """
    groups: dict[tuple[Edge, int], list[Pair]] = {}
    for p in pairs:
        groups.setdefault((p.shortcut, p.fork), []).append(p)
    return max(groups.values(), key=lambda g: (len(g), g[0].fork, -g[0].short.bit_count(), -g[0].shortcut.pos))


def _alike(pairs: list[Pair], chosen: list[Pair]) -> list[Pair]:
    """The pairs of the other operands that bypass the same branches from the same fork: ``x + x + F(x)``."""
    past = {p.branch for p in chosen}
    groups: dict[Edge, list[Pair]] = {}
    for p in pairs:
        if p.fork == chosen[0].fork and p.shortcut != chosen[0].shortcut:
            groups.setdefault(p.shortcut, []).append(p)
    return [p for group in groups.values() if {p.branch for p in group} == past for p in group]


def _region(graph: Graph, pairs: list[Pair]) -> int:
    """The nodes of one branch, as bits.

    Where the fork is a group of sources, only paths count that lead from a source to the branch's end without passing
    another source.
    """
    region = union(p.region for p in pairs)
    sources = union(1 << p.fork for p in pairs)
    if len(pairs) == 1:
        return region
    reached, front = 0, 1 << graph.value(pairs[0].branch)
    while front:
        reached |= front
        before = union(1 << j for i in bits_of(front) for j in graph.nodes[i].ins)
        front = before & region & ~sources & ~reached
    return reached


def _lengths(
    graph: Graph, kind: str, pairs: list[Pair], chosen: list[Pair], regions: tuple[int, ...], operands: tuple[Edge, ...]
) -> tuple[tuple[int, int], ...]:
    """(forks as bits, branch as bits) of every pair, to tell whether the skip is long.

    Of a concat's pairs that were not chosen, the branch leaves out the nodes that also made another operand.
    """
    out = [(union(1 << p.fork for p in chosen), region) for region in regions]
    taken = {(p.shortcut, p.branch) for p in chosen}
    for p in pairs:
        if (p.shortcut, p.branch) in taken:
            continue
        made = 0
        if kind == "concat":
            made = union(graph.up[graph.value(e)] for e in operands if e not in (p.branch, p.shortcut))
        out.append((1 << p.fork, p.region & ~made))
    return tuple(out)


def _label(graph: Graph, pair: Pair, chain: Chain) -> str:
    if pair.label != "identity":
        return pair.label
    if _unsplit(graph, pair.fork) != pair.fork:
        return "slice"  # taken from a split of the fork, even an identity carries a slice of it
    return "scaled" if chain.factors.get(pair.shortcut, 1.0) != 1.0 else "identity"


def _unsplit(graph: Graph, x: int) -> int:
    """The value a split op took apart: ``x`` of ``a, b = x.chunk(2)``, where the fork is the op itself, not a part."""
    node = graph.nodes[x]
    while len(node.ins) == 1 and node.op in ops.SPLITS:
        node = graph.nodes[node.ins[0]]
    return node.i


def _index(graph: Graph, end: int, operands: tuple[Edge, ...]) -> Match | None:
    """SegNet: the pooling indices of the encoder meet the decoder's features in an unpooling."""
    if len(operands) < 2:
        return None
    data, indices = operands[0], operands[1]
    pool = graph.value(indices)
    while graph.nodes[pool].op == "output" or graph.nodes[pool].cls == "identity":
        pool = graph.nodes[pool].ins[0]
    branch = graph.between(pool, graph.value(data))
    if graph.nodes[pool].cls != "pool" or not branch & graph.weighted:
        return None
    # The pooling leaves the fork's resolution, the unpooling comes back to it.
    fork = graph.nodes[pool].ins[0]
    return Match(
        kind="index", merge=end, parts=(end,), operands=operands, shortcuts=(indices,), branches=(data,),
        sources=(fork,), shortcut_nodes=1 << pool, branch_nodes=branch, regions=(branch,),
        label="pool", long=size(graph.nodes[pool].shape) < size(graph.nodes[fork].shape),
    )  # fmt: skip


# -- merges that are no skips ----------------------------------------------------------------------


def _other(graph: Graph, kind: str, end: int, operands: tuple[Edge, ...]) -> Other | None:
    node = graph.nodes[end]
    name = node.module or "root"
    values = [graph.value(e) for e in operands]
    if kind == "add":
        learned = [j for j in node.args if graph.nodes[j].role == "param"]
        shaped = len(values) > 1 and node.op not in ops.INDEXED_ADDS
        broadcast = [v for v in values if shaped and smaller(graph, v, end)]
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


def _gate(graph: Graph, end: int, operands: tuple[Edge, ...]) -> Other | None:
    values = [graph.value(e) for e in operands]
    if len(set(values)) < 2:
        return None
    x = graph.common(values[0], values[1])
    if x is None or not any(graph.between(x, v) & graph.weighted for v in values):
        return None
    return Other(graph.nodes[end].module or "root", "gate", "a product of two paths (gate), with no additive shortcut")
