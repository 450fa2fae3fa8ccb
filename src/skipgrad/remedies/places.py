"""Modules by path behind wrappers, and runs of a model that leave no trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import ModelError

# Attributes under which a wrapper keeps the module it wraps: torch.compile, activation checkpointing.
_INNER = ("_orig_mod", "_checkpoint_wrapped_module")


def unwrap(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """The model inside `torch.compile`, DDP and the like, and the names of the wrappers, outermost first."""
    names: list[str] = []
    while True:
        inner = _inside(model)
        if inner is None and isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        if inner is None:
            return model, tuple(names)
        names.append(type(model).__name__)
        model = inner


def _inside(module: nn.Module) -> nn.Module | None:
    for name in _INNER:
        inner = module._modules.get(name)
        if inner is not None:
            return inner
    return None


def locate(model: nn.Module, path: str, doing: str) -> nn.Module:
    """The submodule at ``path``; wrappers on the way (block-wise `torch.compile`) are looked through.

    Raises:
        ModelError: there is none.
    """
    module = model
    for part in path.split(".") if path else []:
        inner = module._modules.get(part)
        while inner is None and (through := _inside(module)) is not None:
            module, inner = through, through._modules.get(part)
        if inner is None:
            raise ModelError(
                doing,
                where=path,
                received=f"{type(model).__name__} has no such module",
                todo="use the graph that skipgrad.find returned for this model",
            )
        module = inner
    while (through := _inside(module)) is not None:
        module = through
    return module


def strip_call(name: str) -> str:
    """A module's path without the ``#2`` of its second call."""
    head, mark, tail = name.rpartition("#")
    return head if mark and tail.isdigit() else name


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restores buffers, gradients, training flags and the random state after a trial run of ``model``."""
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    grads = [(p, p.grad) for p in model.parameters()]
    modes = [(m, m.training) for m in model.modules()]
    devices = sorted({t.device.index or 0 for t in model.parameters() if t.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            for p, _ in grads:
                p.grad = None
            yield
    finally:
        with torch.no_grad():
            for buffer, value in buffers:
                # Buffers that were not written keep their version, so that a pending backward still runs.
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for p, grad in grads:
            p.grad = grad
        for m, training in modes:
            m.training = training


def call(model: nn.Module, example: Any, kwargs: dict[str, Any] | None) -> Any:
    """Runs ``model`` on an example given as a tensor or as a tuple of arguments."""
    args = tuple(example) if isinstance(example, tuple | list) else () if example is None else (example,)
    return model(*args, **(kwargs or {}))
