"""Brute force on any model: its calls are written down and then made again, one by one, by an interpreter.

In the second run every use of a fork gets a copy of its own, whose gradient ``torch.autograd.grad`` gives. Which uses
are the shortcut's and which the branch's is read off the match; nothing of the ledger is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ledger.forked import figures
from skipgrad.finder import find_in_call
from skipgrad.finder.build import Found
from skipgrad.finder.ops import SPLITS
from skipgrad.finder.records import Match
from skipgrad.instrument.tensors import mapped, tensors_in


@dataclass
class Step:
    """One call."""

    func: Callable[..., Any]
    args: Any
    kwargs: Any
    outs: list[Tensor]
    call: tuple[str, int] | None


@dataclass
class Tape(TorchFunctionMode):
    """Writes down the calls of a forward."""

    steps: list[Step] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        out = func(*args, **kwargs)
        listed = list(out) if name == "__iter__" else out
        results = args[0] if name == "__setitem__" else listed
        outs = list(tensors_in(results))
        if not outs:
            return out
        call = None
        given = [t.is_floating_point() or t.is_complex() for t in tensors_in((args, kwargs))]
        if name not in ("__get__", "__set__", "__delete__") and (any(given) or not given):
            call = (name, self.counts[name])
            self.counts[name] += 1
        # A list may grow after the call it was given to.
        self.steps.append(Step(func, mapped(args, _same), mapped(kwargs, _same), outs, call))
        return iter(listed) if name == "__iter__" else out


def _following(tensors: Iterator[Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda _: next(tensors)


def _same(t: Tensor) -> Tensor:
    return t


@dataclass
class Wanted:
    """One skip: (call, tensor argument) of the uses, and the call and number of the result that is y."""

    shortcut: list[tuple[tuple[str, int], int]]
    branch: list[tuple[tuple[str, int], int]]
    merge: tuple[tuple[str, int], int]


def wanted(found: Found, match: Match) -> Wanted:
    graph = found.graph
    sides: dict[str, list[tuple[tuple[str, int], int]]] = {"S": [], "B": []}
    front, seen = list(match.sources), set()
    while front:
        source = front.pop(0)
        if source in seen:
            continue
        seen.add(source)
        for edge in graph.consumers[source]:
            node = graph.nodes[edge.op]
            short = edge in match.shortcuts or match.shortcut_nodes >> edge.op & 1
            if short or match.branch_nodes >> edge.op & 1:
                if node.op == "output":  # what a split returns is no use of it
                    front.append(node.i)
                    continue
                assert node.call is not None
                sides["S" if short else "B"].append((node.call, edge.pos + node.shift))
            elif node.op == "output" or node.op in SPLITS:
                front.append(node.i)
    end = graph.nodes[match.merge]
    assert end.call is not None
    return Wanted(sides["S"], sides["B"], (end.call, end.result))


def replayed(
    tape: Tape, wants: dict[str, Wanted], loss_of: Callable[[Any], Tensor], output: Any
) -> dict[str, dict[str, float]]:
    """Makes the calls again, and returns the figures of every skip."""
    env: dict[int, Tensor] = {}
    used: dict[tuple[str, int], set[int]] = {}
    merges = {w.merge for w in wants.values()}
    for w in wants.values():
        for call, pos in (*w.shortcut, *w.branch):
            used.setdefault(call, set()).add(pos)
    copies: dict[tuple[tuple[str, int], int], Tensor] = {}
    forks: dict[tuple[tuple[str, int], int], int] = {}
    originals: dict[int, Tensor] = {}
    ends: dict[tuple[tuple[str, int], int], Tensor] = {}
    for step in tape.steps:
        given = list(tensors_in((step.args, step.kwargs)))
        args = [env.get(id(t), t) for t in given]
        fresh: dict[int, Tensor] = {}
        for pos in used.get(step.call, ()) if step.call else ():
            key = id(given[pos])
            if key not in fresh:
                kept = args[pos].clone()
                originals[id(kept)] = args[pos]
                fresh[key] = kept
            copies[step.call, pos] = fresh[key]  # type: ignore[index]
            forks[step.call, pos] = key  # type: ignore[index]
        handed = {key: t.clone() for key, t in fresh.items()}
        following = _following(iter([handed.get(id(t), a) for t, a in zip(given, args, strict=True)]))
        new_args = mapped(step.args, following)
        new_kwargs = mapped(step.kwargs, following)
        versions = {key: t._version for key, t in handed.items()}
        out = step.func(*new_args, **new_kwargs)
        name = getattr(step.func, "__name__", "")
        for key, t in handed.items():
            if t._version != versions[key]:
                env[key] = t  # changed in place: what comes after sees it
        if name == "__setitem__":
            continue
        results = list(tensors_in(list(out) if name == "__iter__" else out))
        for k, (old, new) in enumerate(zip(step.outs, results, strict=True)):
            if step.call is not None and (step.call, k) in merges:
                ends[step.call, k] = new
                new = new.clone()
            env[id(old)] = new
    loss = loss_of(mapped(output, lambda t: env.get(id(t), t)))
    answers = {}
    for name, w in wants.items():
        asked = [copies[u] for u in (*w.shortcut, *w.branch)]
        grads = torch.autograd.grad(
            loss, [*asked, ends[w.merge]], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        s: dict[int, Tensor] = {}
        b: dict[int, Tensor] = {}
        x: dict[int, Tensor] = {}
        done: set[int] = set()
        for use, grad in zip((*w.shortcut, *w.branch), grads[:-1], strict=True):
            if id(copies[use]) in done:
                continue
            done.add(id(copies[use]))
            side = s if use in w.shortcut else b
            fork = forks[use]
            side[fork] = side[fork] + grad if fork in side else grad
            x[fork] = originals[id(copies[use])]
        zero = {fork: torch.zeros_like(t) for fork, t in x.items()}
        order = list(x)
        answers[name] = figures(
            [s.get(f, zero[f]) for f in order], [b.get(f, zero[f]) for f in order], grads[-1], [x[f] for f in order]
        )
    return answers


def brute(
    model: nn.Module, args: Any, kwargs: Any, loss_of: Callable[[Any], Tensor], names: Iterable[str], seed: int = 0
) -> dict[str, dict[str, float]]:
    """The figures of the skips of those names, by replaying the model's own calls."""
    found: Any = find_in_call(model, args, kwargs, how="real").found
    tape = Tape()
    torch.manual_seed(seed)
    with tape:
        output = model(*args, **kwargs)
    wants = {name: wanted(found, found.matches[name]) for name in names}
    torch.manual_seed(seed)
    return replayed(tape, wants, loss_of, output)
