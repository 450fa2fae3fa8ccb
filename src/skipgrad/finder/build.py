"""From matches in a trace to the records a person reads."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import Layer, Skip, SkipGraph, Unknown
from skipgrad.finder import ops
from skipgrad.finder.graph import Edge, Graph, bits_of
from skipgrad.finder.match import match
from skipgrad.finder.names import layers_of, weight_owner
from skipgrad.finder.recorder import UNREGISTERED
from skipgrad.finder.records import Match
from skipgrad.finder.rules import Rules
from skipgrad.finder.suggest import suggest
from skipgrad.finder.trace import Node, Trace


@dataclass
class Found:
    """A trace, its graph and its matches. A watch needs them beside the records.

    Attributes:
        trace: the recorded calls.
        graph: the graph derived from the trace.
        matches: name of a skip → its match.
        layers: (name, node) of every matrix-like weighted call, in order.
    """

    trace: Trace
    graph: Graph
    matches: dict[str, Match]
    layers: list[tuple[str, Node]]


def build(trace: Trace, *, model: str, inputs: str) -> SkipGraph:
    """The `SkipGraph` of a trace; keeps the trace in it for a watch to use."""
    graph = Graph.of(trace)
    matches, others = match(trace, graph)
    layers = layers_of(trace, graph)
    at = [node.i for _, node in layers]
    names: Counter[str] = Counter()
    by_end: dict[int, str] = {}
    skips: list[Skip] = []
    named: dict[str, Match] = {}
    for m in matches:
        owner = graph.nodes[m.merge].module
        if graph.nodes[m.merge].below:
            owner = _around(graph, m, owner)
        base = owner or "root"
        names[base] += 1
        name = base if names[base] == 1 else f"{base}#{names[base]}"
        previous, trunk = _trunk(graph, m, by_end)
        for part in m.parts:
            by_end[part] = name
        named[name] = m
        skips.append(_skip(graph, m, name, owner, at, previous, trunk))
    refused = [s for s in skips if not _kept(s, trace.rules)]
    if refused:
        skips = _without(skips, {s.name for s in refused})
        named = {s.name: named[s.name] for s in skips}
    notes = list(trace.notes)
    if refused:
        notes.append(f"left out by the rule keep=: {', '.join(s.name for s in refused)}")
    if any(UNREGISTERED in n.params for n in trace.nodes):
        notes.append("learned tensors that no module has registered: model.parameters() does not have them")
    if trace.unrun:
        shown = ", ".join(trace.unrun[:6]) + (" …" if len(trace.unrun) > 6 else "")
        notes.append(f"{len(trace.unrun)} modules with weights did not run: {shown}")
    if not any(n.role == "param" for n in trace.nodes):
        notes.append("no learned tensor was met, so nothing counts as weighted")
    if not any(n.op == "input" for n in trace.nodes):
        notes.append("no tensor was found among the arguments, so nothing is known to descend from the input")
    found = Found(trace, graph, named, layers)
    return SkipGraph(
        skips=tuple(skips),
        others=tuple(others),
        unknown=tuple(Unknown(op, module, n) for (op, module), n in trace.unknown.items()),
        layers=tuple(Layer(n, node.op, node.shape, _stage(n)) for n, node in layers),
        suggestions=suggest(graph, [m.branch_nodes for m in matches], layers),
        model=model,
        inputs=inputs,
        how=trace.how,
        training=trace.training,
        notes=tuple(notes),
        found=found,
    )


def _kept(skip: Skip, rules: Rules | None) -> bool:
    if rules is None or rules.keep is None:
        return True
    try:
        return bool(rules.keep(skip))
    except Exception as error:
        raise BadInput(
            f"asking the rule keep= about the skip {skip.name!r}",
            received=f"it raised {type(error).__name__}: {error}",
            todo="give a function that takes a skipgrad Skip and says yes or no",
        ) from error


def _without(skips: list[Skip], refused: set[str]) -> list[Skip]:
    """The skips that were not refused; one whose previous skip was refused has no previous skip now."""
    return [replace(s, previous=None, trunk=()) if s.previous in refused else s for s in skips if s.name not in refused]


def _around(graph: Graph, m: Match, owner: str) -> str:
    """The innermost module that holds all of a skip's branches; `owner` when that module is not inside `owner`.

    Used where the trace cannot tell the module of the merge itself: in TorchScript and in exported programs.
    """
    paths = [path.split(".")[:-1] for region in m.regions for path in _owners(graph, region)]
    if not paths:
        return owner
    alike = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    inside = ".".join(names[0] for names in alike)
    return inside if len(inside) > len(owner) and inside.startswith(owner) else owner


def _stage(path: str) -> str:
    """The first components of a path that tell stages apart: ``layer1``, ``features.denseblock2``, ``h``."""
    parts = path.split("#")[0].split("[")[0].split(".")
    if len(parts) > 2 and not parts[1].isdigit() and parts[0] in (
        "model", "encoder", "decoder", "features", "backbone", "transformer", "body", "net", "module", "base_model",
    ):  # fmt: skip
        return ".".join(parts[:2])
    return parts[0]


def _skip(
    graph: Graph, m: Match, name: str, owner: str, layers_at: list[int], previous: str | None, trunk: tuple[str, ...]
) -> Skip:
    nodes = graph.nodes
    fork = max(m.sources)
    return Skip(
        name=name,
        kind=m.kind,  # type: ignore[arg-type]
        shortcut=m.label,  # type: ignore[arg-type]
        long=m.long,
        span=max((r & graph.matrices).bit_count() for r in m.regions),
        fan_in=len(m.operands) if m.kind != "gate" else 2,
        branches=tuple(_owners(graph, r) for r in m.regions),
        fork_shape=_fork_shape(graph, m),
        merge_shape=nodes[m.merge].shape,
        owner=owner,
        fork=nodes[fork].module,
        start=sum(i <= fork for i in layers_at),
        end=sum(i < m.merge for i in layers_at),
        shortcut_ops=tuple(nodes[i].op for i in bits_of(m.shortcut_nodes) if _telling(nodes[i])),
        shortcut_modules=_owners(graph, m.shortcut_nodes),
        tails=tuple(_tail(graph, r, e) for r, e in zip(m.regions, m.branches, strict=True)),
        trunk=trunk,
        previous=previous,
    )


def _telling(node: Node) -> bool:
    return node.op not in ops.VIEWS and node.op != "output"


def _owners(graph: Graph, bits: int) -> tuple[str, ...]:
    owners = (weight_owner(graph.nodes[i]) for i in bits_of(bits & graph.weighted))
    return tuple(dict.fromkeys(owners))


def _tail(graph: Graph, region: int, operand: Edge) -> tuple[str, ...]:
    last = (region & graph.weighted).bit_length() - 1
    return tuple(graph.nodes[i].op for i in bits_of(region) if i > last and _telling(graph.nodes[i]))


def _fork_shape(graph: Graph, m: Match) -> tuple[int, ...]:
    shapes = [graph.nodes[s].shape for s in m.sources]
    dim = graph.nodes[m.merge].dim
    if len(shapes) == 1 or dim is None or any(len(s) != len(shapes[0]) for s in shapes):
        return shapes[-1]
    total = list(shapes[0])
    if any(s[:dim] + s[dim + 1 :] != shapes[0][:dim] + shapes[0][dim + 1 :] for s in shapes):
        return shapes[-1]
    total[dim] = sum(s[dim] for s in shapes)
    return tuple(total)


def _trunk(graph: Graph, m: Match, by_end: dict[int, str]) -> tuple[str | None, tuple[str, ...]]:
    """The previous skip on the stream, and the ops from its merge to this fork; (None, ()) when a matrix lies between.

    Args:
        graph: the graph of the trace.
        m: the skip whose trunk is wanted.
        by_end: node of a merge → name of the skip that ends there.
    """
    ops: list[str] = []
    i = max(m.sources)
    for _ in range(32):
        if i in by_end:
            return by_end[i], tuple(reversed(ops))
        node = graph.nodes[i]
        if node.weight == 2 or not node.ins or node.op in ("input", "mul"):
            break
        if _telling(node):
            ops.append(node.op)
        i = node.ins[0]
    return None, ()
