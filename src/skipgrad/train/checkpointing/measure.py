"""What each block of a model saves for the backward, and how long its forward takes: measured, not guessed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from skipgrad.core import SkipGraph
from skipgrad.instrument.faults import called
from skipgrad.instrument.state import kept

ROUNDS = 5  # forwards that are timed; the fastest counts


@dataclass(frozen=True)
class Unit:
    """A block that can be computed again in the backward.

    Attributes:
        path: of the module.
        end: the number of the first unit, in order of the list, that is not inside this one.
        inside: bytes that only this block saves, its inputs and outputs left out: they are free between its forward and
            its backward.
        held: bytes of its inputs that nobody else saves: they are held instead.
        seconds: its forward takes.
    """

    path: str
    end: int
    inside: int
    held: int
    seconds: float

    @property
    def gain(self) -> int:
        """Bytes that are saved less."""
        return self.inside - self.held


def measure(
    model: nn.Module, graph: SkipGraph | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Unit], int]:
    """The units of a model, outer ones first, and the bytes that a whole forward saves.

    A unit is a module that runs in the forward and is not a part of a block with a short skip over it: such blocks are
    whole units. What a module saves is what autograd packs while it runs (``saved_tensors_hooks``); weights and buffers
    are not counted. The model is left as it was.

    Args:
        model: in the mode it is trained in; eager.
        graph: its skips; None for any module.
        args: of a forward.
        kwargs: of the same.

    Raises:
        ModelError: the forward raises.
    """
    names = _candidates(model, graph)
    with kept(model):
        seen = _Seen(model, names)
        with seen.hooked():
            seen.timing = False
            with torch.autograd.graph.saved_tensors_hooks(seen.pack, lambda t: t):
                output = called(model, args, kwargs, "measuring what a forward saves")
            del output
            seen.timing = True
            for _ in range(ROUNDS):
                seen.starts()
                with torch.no_grad():
                    called(model, args, kwargs, "measuring how long a forward takes")
    return seen.units(), sum(seen.sizes.values())


def saved_bytes(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes that a forward saves for the backward, weights and buffers left out; the model is left as it was."""
    with kept(model):
        seen = _Seen(model, [])
        with torch.autograd.graph.saved_tensors_hooks(seen.pack, lambda t: t):
            called(model, args, kwargs, "measuring what a forward saves")
    return sum(seen.sizes.values())


def _candidates(model: nn.Module, graph: SkipGraph | None) -> list[str]:
    blocks = [] if graph is None else sorted({s.owner for s in graph.skips if not s.long and s.owner})
    names = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in blocks)
        if name and not inside and next(module.parameters(), None) is not None:
            names.append(name)
    return names


@dataclass
class _Mine:
    """What was seen of one candidate."""

    ran: int = 0
    seconds: float = 0.0
    best: float = float("inf")
    inputs: dict[int, int] = field(default_factory=dict)
    outputs: set[int] = field(default_factory=set)


class _Seen:
    def __init__(self, model: nn.Module, names: list[str]) -> None:
        self._model, self._names = model, names
        self._own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
        self._stack: list[tuple[str, float]] = []
        self.mine = {name: _Mine() for name in names}
        self.sizes: dict[int, int] = {}  # storage → bytes
        self.savers: dict[int, set[tuple[str, ...]]] = {}
        self.timing = False
        self._alive: list[Any] = []

    def pack(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            place = storage.data_ptr()
            if place and place not in self._own:
                self.sizes[place] = storage.nbytes()
                self.savers.setdefault(place, set()).add(tuple(name for name, _ in self._stack))
                self._alive.append(storage)
        return tensor

    def starts(self) -> None:
        for mine in self.mine.values():
            mine.best, mine.seconds = min(mine.best, mine.seconds or float("inf")), 0.0

    @contextmanager
    def hooked(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in self._names:
                module = self._model.get_submodule(name)
                for handle in (
                    module.register_forward_pre_hook(self._enters(name), prepend=True, with_kwargs=True),
                    module.register_forward_hook(self._leaves(name)),
                ):
                    stack.callback(handle.remove)
            yield

    def _enters(self, name: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            if not self.timing:
                for tensor in tree_leaves((args, kwargs)):
                    if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                        storage = tensor.untyped_storage()
                        self.mine[name].inputs[storage.data_ptr()] = storage.nbytes()
                        self._alive.append(storage)
            self._stack.append((name, time.perf_counter()))

        return enter

    def _leaves(self, name: str) -> Any:
        def leave(module: nn.Module, args: Any, output: Any) -> None:
            _, began = self._stack.pop()
            mine = self.mine[name]
            if self.timing:
                mine.seconds += time.perf_counter() - began
                return
            mine.ran += 1
            for tensor in tree_leaves(output):
                if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                    mine.outputs.add(tensor.untyped_storage().data_ptr())
                    self._alive.append(tensor.untyped_storage())

        return leave

    def units(self) -> list[Unit]:
        self.starts()
        ran = [name for name in self._names if self.mine[name].ran]
        units = []
        for k, name in enumerate(ran):
            mine = self.mine[name]
            inside = 0
            for place, size in self.sizes.items():
                alone = all(name in stack for stack in self.savers[place])
                if alone and place not in mine.inputs and place not in mine.outputs:
                    inside += size
            held = sum(n for place, n in mine.inputs.items() if place not in self.sizes)
            end = next((j for j in range(k + 1, len(ran)) if not ran[j].startswith(f"{name}.")), len(ran))
            units.append(Unit(name, end, inside, held, mine.best))
        return units
