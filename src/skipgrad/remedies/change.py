"""D = Σᵢ ‖ΔFᵢ‖ / ‖xᵢ‖: how much a step changed what the branches do, at the inputs they had."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core.graph import SkipGraph
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.instrument.state import eagerly
from skipgrad.instrument.wrappers import locate, strip_call
from skipgrad.remedies.asleep import left_out
from skipgrad.remedies.marks import mark, unmark
from skipgrad.remedies.retrofit.places import Spot
from skipgrad.remedies.retrofit.rewrite import AtCalls, Edits


class _Branch(nn.Module):
    """Keeps what passes; the second time lets the first pass again, and keeps how far the new one is from it."""

    def __init__(self) -> None:
        super().__init__()
        self.first: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.again = False

    def forward(self, z: Tensor) -> Tensor:
        if not self.again:
            self.first.append(z.detach().clone())
            return z
        old = self.first[len(self.squares)]
        self.squares.append((z.detach() - old).float().square().sum())
        # What follows sees the stream as it was: each branch is compared at its old input.
        return old


class _Shortcut(nn.Module):
    """Measures what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.squares: list[Tensor] = []
        self.again = False

    def forward(self, z: Tensor) -> Tensor:
        if not self.again:
            self.squares.append(z.detach().float().square().sum())
        return z


class Change:
    """Measures D over one optimizer step, by a forward before it and a forward after it on the same batch.

    In the second forward every merge gets the branch output of the first, and what is on no branch has its weights of
    before the step: each branch is compared at the very input it had. Neither forward leaves anything behind: random
    states and buffers are put back, and no gradient is made.

    Args:
        model: the model, without wrappers.
        branches: the operands that the branches bring.
        shortcuts: those of the shortcuts of the same skips.
        inside: paths of the modules on those branches.
        doing: for messages.
    """

    def __init__(
        self,
        model: nn.Module,
        branches: Sequence[Spot],
        shortcuts: Sequence[Spot],
        inside: Iterable[str],
        doing: str,
    ) -> None:
        self._model = model
        own: set[int] = set()
        for path in inside:
            module = locate(model, path, doing)
            # Its output projection is a submodule that is never called, so no path of the graph names it.
            own |= {id(p) for p in module.parameters(recurse=isinstance(module, nn.MultiheadAttention))}
        self._outside = [p for p in model.parameters() if id(p) not in own]
        self._weights: list[Tensor] = []
        self._spots = [*((s, _Branch) for s in branches), *((s, _Shortcut) for s in shortcuts)]
        self._owners = {s.place.module: locate(model, s.place.module, doing) for s, _ in self._spots}
        self._looks: list[tuple[Spot, Any]] = []
        self._inputs: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None

    def before(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The forward before the step, on a batch's inputs."""
        self._inputs = args, kwargs
        self._looks = [(spot, make()) for spot, make in self._spots]
        self._weights = [p.detach().clone() for p in self._outside]
        self._forward()

    def after(self) -> dict[str, float]:
        """Skip → ‖ΔF‖/‖x‖ by the forward after the step; not finite where the branch's output is not."""
        for _, look in self._looks:
            look.again = True
        new = [p.data for p in self._outside]
        try:
            for p, old in zip(self._outside, self._weights, strict=True):
                p.data = old
            self._forward()
        finally:
            for p, value in zip(self._outside, new, strict=True):
                p.data = value
        found: dict[str, float] = {}
        sizes = {n: math.sqrt(sum(map(float, k.squares))) for s, k in self._looks if _shortcut(k) for n in s.skips}
        for spot, look in self._looks:
            if _shortcut(look):
                continue
            moved = sum(map(float, look.squares))
            # A module that runs several times has one place for all its skips; they are told together, under the first.
            size = sizes.get(spot.skips[0], 0.0)
            if size > 0:
                found[spot.skips[0]] = math.hypot(found.get(spot.skips[0], 0.0), math.sqrt(moved) / size)
        self.forget()
        return found

    def forget(self) -> None:
        """Lets go of the batch and of what was kept of it."""
        self._looks, self._weights, self._inputs = [], [], None

    def _forward(self) -> None:
        assert self._inputs is not None
        edits: dict[str, list[tuple[Spot, nn.Module]]] = {}
        out = left_out(self._model)
        for spot, look in self._looks:
            if not any(spot.place.module == path or spot.place.module.startswith(f"{path}.") for path in out):
                edits.setdefault(spot.place.module, []).append((spot, look))
        marks: list[tuple[nn.Module, object]] = []
        swapped: list[tuple[nn.Module, dict[str, Tensor | None]]] = []
        args, kwargs = self._inputs
        devices = {p.device for p in self._model.parameters()}
        try:
            for path, own in edits.items():
                marks.append((self._owners[path], mark(self._owners[path], _around(own, path))))
            for module in self._model.modules():
                if module._buffers and not isinstance(module, torch.jit.ScriptModule):
                    swapped.append((module, module._buffers))
                    copies = {k: None if b is None else b.detach().clone() for k, b in module._buffers.items()}
                    module.__dict__["_buffers"] = copies
            with kept_random(*devices), torch.no_grad(), eagerly():
                seed_all(0)  # the same dropout masks in both
                self._model(*args, **kwargs)
        finally:
            for module, buffers in swapped:
                module.__dict__["_buffers"] = buffers
            for module, token in reversed(marks):
                unmark(module, token)


def on_branches(graph: SkipGraph, branches: Sequence[Spot]) -> tuple[str, ...]:
    """The modules on the branches of the skips whose operands these are."""
    names = {n for s in branches for n in s.skips}
    return tuple(dict.fromkeys(strip_call(p) for s in graph if s.name in names for b in s.branches for p in b))


def _shortcut(look: nn.Module) -> bool:
    return isinstance(look, _Shortcut)


def _around(own: Sequence[tuple[Spot, nn.Module]], path: str) -> Callable[..., Any]:
    at: dict[str, dict[int, dict[int, str]]] = {}
    held = Edits()
    for i, (spot, look) in enumerate(own):
        held[str(i)] = look
        at.setdefault(spot.place.name, {}).setdefault(spot.place.number, {})[spot.place.position] = str(i)
    return partial(_run, AtCalls(held, at, path))


def _run(mode: AtCalls, _module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return mode.around(forward, args, kwargs)
