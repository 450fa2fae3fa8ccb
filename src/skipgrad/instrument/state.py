"""Leaves a model as it was: everything that a forward may write beside its result is remembered and put back."""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.instrument.seeding import kept_random, seed_all

_DEPTH = 6  # how deep containers and objects inside one another are followed
_LARGEST = 1 << 26  # bytes; a larger tensor attribute is not copied, so a write into it is not undone
# Objects whose class comes from one of these packages are not followed.
_ALIEN = ("torch", "numpy", "builtins", "lightning", "pytorch_lightning", "threading", "logging", "typing")


@contextlib.contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Puts back attributes and what is in them, buffers, hooks and random states, however the block ends.

    The values of parameters and buffers are left alone, as the block has stand-ins for them; but those of TorchScript
    modules, for which nothing can stand in, are put back by value.
    """
    memory = Memory()
    for module in model.modules():
        memory.seen.add(id(module))
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                memory.tensor(tensor)
        else:
            own = (*module._parameters.values(), *module._buffers.values())
            memory.seen.update(id(t) for t in own if t is not None)
            memory.contents(vars(module))
    caches = _beside(model, memory)
    try:
        with kept_random(*(p.device for p in model.parameters())):
            yield
    finally:
        memory.put_back()
        for cache, misses in caches:
            if cache.cache_info().misses > misses:  # what it was given inside stands in for real tensors
                cache.cache_clear()


def _beside(model: nn.Module, memory: Memory) -> list[tuple[Any, int]]:
    """Remembers what the code of a model keeps outside of it: objects of its own classes, by name in its source files.

    Returns:
        The functions there and in its classes that cache what they return (``functools.lru_cache``), and how often each
        has had to compute it.
    """
    kinds = {c for module in model.modules() for c in type(module).__mro__}
    kinds = {c for c in kinds if c.__module__.partition(".")[0] not in _ALIEN}
    # By `type` and not by `isinstance`, which asks a proxy for what it stands for.
    bound = (staticmethod, classmethod)
    found: list[Any] = [v.__func__ if type(v) in bound else v for c in kinds for v in list(vars(c).values())]
    for name in {c.__module__ for c in kinds}:
        for value in list(vars(sys.modules[name]).values()) if name in sys.modules else ():
            if (
                type(value).__module__ == name
                and hasattr(value, "__dict__")
                and not isinstance(value, nn.Module | type)
            ):
                memory.walk(value)
            found.append(value)
    caches = {id(f): f for f in found if type(f) is functools._lru_cache_wrapper}
    return [(f, f.cache_info().misses) for f in caches.values()]


@contextlib.contextmanager
def kept(model: nn.Module, *, training: Mapping[str, bool] | None = None, seed: int | None = None) -> Iterator[None]:
    """Wraps a forward or backward of our own on a user's model: all that `restored` does, and more.

    Inside the block, parameters have no gradient and buffers are copies. They are copies because writing old values
    back into the buffers themselves would raise their versions, and a backward of the user's that is still to come
    would refuse to run. Weights are not saved: nothing inside the block may step an optimizer.

    Args:
        model: the model as the user calls it, wrapped or not.
        training: path of a module → its mode inside the block.
        seed: of torch, numpy and Python inside the block.
    """
    parameters = list(model.parameters())
    grads = [p.grad for p in parameters]
    copies: dict[int, Tensor] = {}
    with restored(model):
        for p in parameters:
            p.grad = None
        for name, module in model.named_modules():
            if training is not None and name in training:
                module.training = training[name]
            if not isinstance(module, torch.jit.ScriptModule):
                module.__dict__["_buffers"] = {
                    key: b if b is None else copies.setdefault(id(b), b.detach().clone())
                    for key, b in module._buffers.items()
                }
        if seed is not None:
            seed_all(seed)
        try:
            yield
        finally:
            for p, grad in zip(parameters, grads, strict=True):
                p.grad = grad


def eagerly() -> contextlib.AbstractContextManager[Any]:
    """Runs compiled parts eagerly inside the block, as neither the recorder nor our modes see into a compiled graph."""
    if "torch._dynamo" in sys.modules:
        return torch.compiler.set_stance("force_eager")
    return contextlib.nullcontext()


class Memory:
    """What was in containers, objects, generators and tensors, to be put back.

    Args:
        tensors: the values of tensors, too.

    Attributes:
        undo: what puts things back, first remembered first.
        seen: ids of what is remembered, or is not to be.
    """

    def __init__(self, *, tensors: bool = True) -> None:
        self.undo: list[Callable[[], object]] = []
        self.seen: set[int] = set()
        self._tensors = tensors

    def put_back(self) -> None:
        """Puts everything back."""
        # Last first, so that a container is put back after what is in it.
        for act in reversed(self.undo):
            act()

    def walk(self, value: Any, depth: int = 0) -> None:
        """Remembers a value and what is in it."""
        skipped = nn.Module | type | types.ModuleType | str | bytes
        if depth > _DEPTH or id(value) in self.seen or isinstance(value, skipped):
            return
        if isinstance(value, Tensor):
            if self._tensors:
                self.tensor(value)
        elif isinstance(value, torch.Generator):
            state = value.get_state()
            self.undo.append(lambda: value.set_state(state))
        elif isinstance(value, random.Random):
            drawn = value.getstate()
            self.undo.append(lambda: value.setstate(drawn))
        elif isinstance(value, dict | list | set | deque):
            self.contents(value, depth)
        elif isinstance(value, tuple):
            for v in value:
                self.walk(v, depth + 1)
        elif type(value).__module__.startswith("numpy.random") and hasattr(value, "bit_generator"):
            bits = value.bit_generator
            before = bits.state
            self.undo.append(lambda: setattr(bits, "state", before))
        elif hasattr(value, "__dict__") and not callable(value) and type(value).__module__.split(".")[0] not in _ALIEN:
            self.seen.add(id(value))
            self.contents(vars(value), depth + 1)

    def contents(self, box: Any, depth: int = 0) -> None:
        """Remembers what a container holds, and what that holds."""
        if id(box) in self.seen:
            return
        self.seen.add(id(box))
        held = list(box.items()) if isinstance(box, dict) else list(box)
        self.undo.append(lambda: _refill(box, held))
        for v in (v for _, v in held) if isinstance(box, dict) else held:
            self.walk(v, depth + 1)

    def cell(self, cell: types.CellType) -> None:
        """Remembers what a variable of a closure holds."""
        try:
            value = cell.cell_contents
        except ValueError:  # still empty
            return
        self.undo.append(lambda: setattr(cell, "cell_contents", value))
        self.walk(value)

    def tensor(self, tensor: Tensor) -> None:
        """Remembers the value of a tensor that has no stand-in (an attribute, or TorchScript's), and puts it back."""
        if id(tensor) in self.seen or tensor.is_meta or tensor.layout is not torch.strided or tensor.nbytes > _LARGEST:
            return
        self.seen.add(id(tensor))
        with torch.no_grad():
            same, value = tensor.detach(), tensor.detach().clone()

        def back() -> None:  # values are compared, and not versions, which writes below autograd do not raise
            with torch.no_grad(), torch.inference_mode(tensor.is_inference()):
                if tensor.data_ptr() != same.data_ptr() or tensor.shape != value.shape:
                    tensor.data = same
                if not bool(((tensor == value) | ((tensor != tensor) & (value != value))).all()):
                    tensor.copy_(value)

        self.undo.append(back)


def _refill(box: Any, held: list[Any]) -> None:
    """Puts back what a container held, if it holds something else now.

    It calls the methods of Python's own containers, as a subclass may do more than store in its ``__setitem__``.
    """
    if isinstance(box, dict):
        now = list(box.items())
        if len(now) != len(held) or any(a is not c or b is not d for (a, b), (c, d) in zip(now, held, strict=True)):
            kind: Any = OrderedDict if isinstance(box, OrderedDict) else dict
            kind.clear(box)
            for key, value in held:
                kind.__setitem__(box, key, value)
    elif len(box) != len(held) or any(a is not b for a, b in zip(box, held, strict=True)):
        if isinstance(box, list):
            list.__setitem__(box, slice(None), held)
        elif isinstance(box, set):
            set.clear(box)
            set.update(box, held)
        else:
            deque.clear(box)
            deque.extend(box, held)
