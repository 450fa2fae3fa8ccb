"""Lesions of a net at the branches that `skipgrad.find` found in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core.errors import BadInput, MeasureError
from skipgrad.core.graph import SkipGraph
from skipgrad.finder import Found
from skipgrad.finder.route import route_of
from skipgrad.instrument.calls import Address
from skipgrad.instrument.patch import inside
from skipgrad.instrument.state import kept
from skipgrad.instrument.tensors import mapped, tensors_in
from skipgrad.instrument.wrappers import locate, unwrap
from skipgrad.probes.lesion.modes import Appending, Dropping

DOING = "dropping branches"


@dataclass(frozen=True)
class Lesions:
    """What a net scores without each of its branches.

    Attributes:
        base: its score as it is.
        by_skip: skip → the score with this skip's branches dropped, so that x alone is passed on.
        left: skips that cannot be dropped → why.
        forwards: work done for them, in forwards of the batch (weighted layers run, the base among them).
        reused: whether what comes before a merge was computed once for all of the later lesions.
    """

    base: float
    by_skip: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    forwards: float = 0.0
    reused: bool = False


def lesions(
    model: nn.Module,
    graph: SkipGraph,
    inputs: Sequence[Any],
    score: Callable[[Any], float],
    *,
    only: Sequence[str] | None = None,
    reuse: bool = True,
) -> Lesions:
    """Drops each add skip's branches by itself: F(x) = 0, so that y is the shortcut of x alone.

    The net is in evaluation mode, and as it was afterwards. Source: Veit et al. 2016, Residual networks behave like
    ensembles of relatively shallow networks (arXiv:1605.06431).

    Args:
        model: the net.
        graph: `skipgrad.find`'s, of this model with inputs like these in evaluation mode (another batch size will do).
        inputs: positional inputs; their first dimension is the samples.
        score: what the net returned for the inputs → a number, such as the error in percent.
        only: names of skips; all add skips when None.
        reuse: what comes before a merge is computed once for all later lesions, where the net allows it: about n/2
            forwards for n lesions; else n.

    Raises:
        BadInput: a skip that there is not.
        MeasureError: no skip of the net can be dropped.
    """
    found = _found(graph)
    calls, left = _calls(graph, found, only)
    if not calls:
        raise MeasureError(DOING, received="; ".join(f"{k}: {v}" for k, v in list(left.items())[:3]) or "no skip")
    own = unwrap(model)
    rows = next(t.shape[0] for t in tensors_in(tuple(inputs)))
    with _evaluating(own):
        base = score(own(*inputs))
        if reuse and (made := _at_once(own, found, calls, inputs, rows)) is not None:
            outs, forwards = made
            by_skip = {name: score(out) for name, out in outs.items()}
            return Lesions(base, {n: by_skip[n] for n in calls}, left, forwards, True)
        by_skip = {name: score(_without(own, found, calls, (name,), inputs)) for name in calls}
    return Lesions(base, by_skip, left, float(len(calls)), False)


def dropped(model: nn.Module, graph: SkipGraph, names: Sequence[str], inputs: Sequence[Any]) -> Any:
    """What the net returns with the branches of several skips dropped together.

    Raises:
        MeasureError: one of them cannot be dropped; its reason.
    """
    found = _found(graph)
    calls, left = _calls(graph, found, names)
    if left:
        raise MeasureError(DOING, received="; ".join(f"{k}: {v}" for k, v in left.items()))
    own = unwrap(model)
    with _evaluating(own):
        return _without(own, found, calls, tuple(names), inputs)


@contextlib.contextmanager
def swapped(model: nn.Module, first: str, second: str) -> Iterator[None]:
    """Inside the block, two modules have changed places.

    Raises:
        BadInput: they have weights of different shapes.
    """
    own = unwrap(model)
    modules = [locate(own, path, "exchanging two blocks") for path in (first, second)]
    shapes = [[(n, p.shape) for n, p in m.named_parameters()] for m in modules]
    if shapes[0] != shapes[1]:
        raise BadInput(
            "exchanging two blocks",
            received=f"{first} and {second}, whose weights have different shapes",
            todo="name two blocks of one stage",
        )
    homes = [own.get_submodule(p.rpartition(".")[0]) for p in (first, second)]
    names = [p.rpartition(".")[2] for p in (first, second)]
    homes[0]._modules[names[0]], homes[1]._modules[names[1]] = modules[1], modules[0]
    try:
        yield
    finally:
        homes[0]._modules[names[0]], homes[1]._modules[names[1]] = modules[0], modules[1]


def _found(graph: SkipGraph) -> Found:
    if not isinstance(graph.found, Found):
        raise MeasureError(
            DOING, received="a graph without a trace", todo="pass the graph that skipgrad.find returned for this model"
        )
    return graph.found


def _calls(
    graph: SkipGraph, found: Found, only: Sequence[str] | None
) -> tuple[dict[str, dict[Address, tuple[int, ...]]], dict[str, str]]:
    """By skip, the arguments that its branches are; and the skips that cannot be dropped, with the reason."""
    calls: dict[str, dict[Address, tuple[int, ...]]] = {}
    left: dict[str, str] = {}
    names = [s.name for s in graph.skips] if only is None else [graph[n].name for n in only]
    for name in names:
        match = found.matches.get(name)
        if match is None or match.kind != "add":
            left[name] = "its merge is no add"
            continue
        mine: dict[Address, tuple[int, ...]] = {}
        for edge in match.branches:
            node = found.graph.nodes[edge.op]
            if node.call is None or node.below or edge.pos >= node.real:
                left[name] = "its add is not a call of its own"
                break
            mine[node.call] = (*mine.get(node.call, ()), edge.pos + node.shift)
        else:
            calls[name] = mine
    return calls, left


def _without(
    model: nn.Module,
    found: Found,
    calls: dict[str, dict[Address, tuple[int, ...]]],
    names: Sequence[str],
    inputs: Sequence[Any],
) -> Any:
    at: dict[Address, tuple[int, ...]] = {}
    for name in names:
        for call, positions in calls[name].items():
            at[call] = (*at.get(call, ()), *positions)
    mode = Dropping(route_of(found.trace, at), at)
    with inside(model, mode):
        out = model(*inputs)
    if not mode.kept():
        raise MeasureError(
            DOING,
            received="a forward that makes other calls than the one its skips were found in",
            todo="find the skips again in evaluation mode, with inputs like these",
        )
    return out


def _at_once(
    model: nn.Module,
    found: Found,
    calls: dict[str, dict[Address, tuple[int, ...]]],
    inputs: Sequence[Any],
    rows: int,
) -> tuple[dict[str, Any], float] | None:
    """Each skip's output from one growing batch, and its cost in forwards; None where the net does not allow it."""
    if any(len(c) > 1 for c in calls.values()):
        return None
    at = {call: positions for c in calls.values() for call, positions in c.items()}
    mode = Appending(route_of(found.trace, at), at, rows)
    try:
        with inside(model, mode):
            out = model(*inputs)
    except RuntimeError:  # shapes that do not go together: something else carries the batch too
        return None
    parts = list(tensors_in(out))
    if not mode.kept() or any(t.dim() == 0 or t.shape[0] != rows * (1 + len(at)) for t in parts):
        return None
    names = {call: name for name, c in calls.items() for call in c}
    outs = {
        names[call]: mapped(out, lambda t, i=i: t[rows * (i + 1) : rows * (i + 2)]) for i, call in enumerate(mode.order)
    }
    return outs, _work(found, list(mode.order))


def _work(found: Found, merges: Sequence[Address]) -> float:
    """Forwards' worth of weighted layers that n lesions took, the base forward included."""
    ends = [next(n.i for n in found.graph.nodes if n.call == call) for call in merges]
    layers = [node.i for _, node in found.layers]
    return sum(1 + sum(end < layer for end in ends) for layer in layers) / max(1, len(layers))


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    with kept(model, training=dict.fromkeys((n for n, _ in model.named_modules()), False)), torch.no_grad():
        yield


def error_percent(targets: Tensor) -> Callable[[Any], float]:
    """A score: the share of wrong classes, in percent."""
    return lambda out: 100 * float((next(tensors_in(out)).argmax(1) != targets).float().mean())
