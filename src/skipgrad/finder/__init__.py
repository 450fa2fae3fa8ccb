"""Finds the skip connections of a model: trace (what it computes), match (which merges are skips), build (records).

`find` is the way in. Everything it needs to know about an op is in `ops`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from skipgrad.core import BadInput, ModelError, SkipGraph
from skipgrad.core.units import memory
from skipgrad.finder.build import Found, build
from skipgrad.finder.dice import HIGH, LOW, Draws, loaded
from skipgrad.finder.route import route_of
from skipgrad.finder.rules import NO_RULES, Rules
from skipgrad.finder.run import LOCK, is_tracing, is_training, signature, trace
from skipgrad.finder.target import as_module, built_up, name_of
from skipgrad.finder.union import same, united
from skipgrad.instrument.tensors import describe

__all__ = [
    "NO_RULES",
    "Found",
    "Rules",
    "find",
    "find_built",
    "find_in_call",
    "found_for",
    "is_tracing",
    "route_of",
    "signature",
]


def find(model: Any, /, *args: Any, rules: Rules = NO_RULES, **kwargs: Any) -> SkipGraph:
    """Every skip connection of a model, without touching its weights.

    The model's forward is run once on tensors without memory (meta tensors; fake or real ones where the
    forward needs more), in the mode (training or evaluation) the model is in; in the other one, with a note, where it
    raises in this. Buffers, attributes and random state are as before afterwards.

    Args:
        model: a module; real, fake or on the meta device; compiled or not. Or an exported program, a TorchScript module
            (which is run for real), a function or method that calls modules.
        *args: what its forward takes; real, fake or meta tensors of any batch size.
        rules: a user's own, before the finder's: what an op of theirs is, which modules count as one op, which skips to
            keep.
        **kwargs: the same as `args`, by name.

    Returns:
        The `SkipGraph`: ``skips`` in order of execution of the merges, ``others``, ``unknown``.

    Raises:
        BadInput: nothing that can be called with tensors.
        ModelError: the forward raised; the message is the model's own.

    Example:
        >>> import skipgrad as sg, torchvision, torch
        >>> len(sg.find(torchvision.models.resnet18(), torch.zeros(1, 3, 224, 224)))
        8
    """
    _require_usable(rules, (*args, *kwargs.values()))
    module = built_up(as_module(model), args, kwargs)
    with LOCK:  # the mode of the model is changed for a time, too
        try:
            graph = find_in_call(module, args, kwargs, rules=rules)
        except ModelError as failure:
            graph = _in_the_other_mode(module, args, kwargs, rules, failure)
        if graph.found.trace.drew:  # type: ignore[union-attr]
            graph = _whatever_the_dice(module, args, kwargs, rules, graph)
    return replace(graph, model=name_of(model))


def find_in_call(
    model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, how: str = "", rules: Rules = NO_RULES
) -> SkipGraph:
    """`find` for the arguments of a call, in the mode the model is in, traced in a way of one's choice.

    ``how`` is as in `run.trace`.
    """
    inner = as_module(model)
    recorded = trace(inner, args, kwargs, how=how, rules=rules)
    return build(recorded, model=type(inner).__name__, inputs=describe(args, kwargs))


def found_for(
    graph: SkipGraph | None, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], how: str = ""
) -> Found:
    """The trace a graph was found in, where it foretells the calls of this forward; else a new one, by its rules.

    Args:
        graph: of the model; None to trace it anew.
        model: the model itself, in the mode the forward will run in.
        args: of the forward.
        kwargs: of the forward.
        how: when not empty, it is traced anew in this way.
    """
    found: Found | None = graph.found if graph is not None else None
    fits = found is not None and found.trace.signature == signature(args, kwargs, is_training(model))
    if found is not None and fits and not how and found.trace.how != "fake":
        return found
    rules = found.trace.rules if found is not None else NO_RULES
    new: Found | None = find_in_call(model, args, kwargs, how=how or "foretell", rules=rules).found
    assert new is not None, "a graph that was just found has its trace"
    return new


def _require_usable(rules: Any, given: tuple[Any, ...]) -> None:
    """Refuses what is no `Rules`, and arguments that can be read only once."""
    if not isinstance(rules, Rules):
        raise BadInput(
            "looking for skip connections",
            where="rules=",
            received=f"a {type(rules).__name__}",
            todo="pass a skipgrad.Rules(…); for an argument of that name: find(lambda *a: model(*a, rules=…), …)",
        )
    for value in given:
        if isinstance(value, Iterator):
            raise BadInput(
                "looking for skip connections",
                received=f"a {type(value).__name__} among the arguments, which can be read only once",
                todo="pass a list of what it yields",
            )


def _in_the_other_mode(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], rules: Rules, failure: ModelError
) -> SkipGraph:
    """For models that only train, or only evaluate, sensibly; the first failure where they do neither."""
    words = {True: "training", False: "evaluation"}
    other = not is_training(module)
    try:
        with _in_mode(module, other):
            graph = find_in_call(module, args, kwargs, rules=rules)
    except Exception:  # noqa: BLE001 - the user asked for the mode the model is in: that failure is the one to tell
        raise failure from failure.__cause__
    note = f"its forward raised in {words[not other]} mode ({_reason(failure)}); traced in {words[other]} mode instead"
    return replace(graph, notes=(*graph.notes, note))


@contextlib.contextmanager
def _in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Inside the block, all modules are in a mode; without ``train()``, as what theirs does would stay done.

    Where the model itself is in it, nothing is changed: parts of it may be frozen in the other one.
    """
    flags = (
        [(m, m.training) for m in module.modules() if hasattr(m, "training")] if training != is_training(module) else []
    )
    try:
        for m, _ in flags:
            m.training = training
        yield
    finally:
        for m, flag in flags:
            m.training = flag


_HALVES = (0.25, 0.75, 0.125, 0.375, 0.625, 0.875)
_IDLE = 5  # so many forwards in a row that show nothing new are enough


def _whatever_the_dice(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], rules: Rules, graph: SkipGraph
) -> SkipGraph:
    """The graph itself where no random number steers the forward; else that of all that can run, with a note.

    What a forward runs is the same at low, middle and high draws where none of them steers it; and at those of some
    seeds, as not every draw can be loaded.
    """
    training, real = graph.training, graph.how != "meta"

    def at(draws: Draws, mode: bool) -> list[SkipGraph]:
        # A forward may refuse some draws; what it does at others counts.
        how = "real" if graph.how == "real" else ""
        with contextlib.suppress(ModelError), loaded(module, draws), _in_mode(module, mode):
            return [find_in_call(module, args, kwargs, how=how, rules=rules)]
        return []

    first = [Draws(HIGH), Draws(LOW), Draws(0.5), *(Draws(seed=k) for k in range(1, 3 if real else 5))]
    graphs = [g for draws in first for g in at(draws, training)]
    if all(same(g, graph) for g in graphs):
        return graph
    more = [*(Draws(q) for q in _HALVES), *(Draws(seed=k) for k in range(5, 9 if real else 21))]
    whole, idle = united(graphs)[0], 0
    for draws in more:
        graphs += at(draws, training)
        before, (whole, elsewhere) = whole, united(graphs)
        idle = idle + 1 if same(before, whole) else 0
        if idle >= (_IDLE if elsewhere else 2):  # a forward that runs all that any of them runs is most likely whole
            break
    ran = [len(g.skips) for g in graphs]
    whole, elsewhere = united([*graphs, *at(Draws(), not training)])
    some = f"{min(ran)} to {max(ran)} of its {len(whole.skips)} skips"
    note = f"this model leaves out blocks at random: {some} run in a forward"
    if elsewhere:
        note += f"; not in the trace that is kept, as no forward ran all: {', '.join(elsewhere)}"
    return replace(whole, notes=(*whole.notes, note))


def find_built(
    make: Callable[[], nn.Module],
    example: Callable[[str], tuple[tuple[Any, ...], dict[str, Any]]],
    label: str = "",
    *,
    rules: Rules = NO_RULES,
) -> SkipGraph:
    """`find` for a model that is still to be built: on the meta device, else for real.

    Args:
        make: builds a fresh model.
        example: device → (args, kwargs) for its forward.
        label: what the model is called.
        rules: a user's own.

    Raises:
        ModelError: it could be neither built nor run; the message of the first attempt, and what the others met.
    """
    failures: list[tuple[str, Exception]] = []
    needed = 0
    for device in ("meta", "cpu"):
        try:
            if needed > _free() / 3:  # the run works on a copy of them
                raise MemoryError(f"its weights would take {memory(needed)}, and {memory(_free())} are free")
            with torch.device(device):
                model = make().train()
            needed = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
            args, kwargs = example(device)
            graph = find(model, *args, rules=rules, **kwargs)
        except Exception as error:  # noqa: BLE001 - a constructor may raise anything; reported below
            failures.append((device, error))
            continue
        tried = (f"tried first: on {d}: {_reason(e)}" for d, e in failures)
        return replace(graph, model=label or graph.model, notes=(*tried, *graph.notes))
    first = failures[0][1]
    if not isinstance(first, ModelError):
        first = next((e for _, e in failures if isinstance(e, ModelError)), first)
    if isinstance(first, ModelError):
        also = "; ".join(f"on {w}: {_reason(e)}" for w, e in failures if e is not first)
        raise ModelError(
            first.doing, where=first.where, received=f"{first.received}; tried too: {also}", todo=first.todo
        ) from first
    raise first


def _free() -> float:
    """Bytes of memory that are free; infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return math.inf


def _reason(error: Exception) -> str:
    """What was raised, in one line."""
    if isinstance(error, ModelError):
        return (error.received or error.doing).rpartition("it raised ")[2]
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
