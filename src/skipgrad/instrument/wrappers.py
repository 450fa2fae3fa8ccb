"""Finds a module inside its wrappers (``torch.compile``, DistributedDataParallel, checkpoints), and by its path."""

from __future__ import annotations

from typing import Any

from torch import nn

from skipgrad.core.errors import ModelError

# Attributes under which a wrapper keeps the module it wraps: torch.compile, activation checkpointing.
_COMPILED, _CHECKPOINTED = "_orig_mod", "_checkpoint_wrapped_module"


def unwrap(model: Any) -> Any:
    """The user's own module, out of ``torch.compile`` and DistributedDataParallel; anything else as it is."""
    while (inner := _in_compiled_or_parallel(model)) is not None:
        model = inner
    return model


def peel(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """As `unwrap`, and inside wrappers that checkpoint activations; with the wrappers' class names, outermost first."""
    names: list[str] = []
    while (inner := _inside(model)) is not None or (inner := _in_compiled_or_parallel(model)) is not None:
        names.append(type(model).__name__)
        model = inner
    return model, tuple(names)


def _in_compiled_or_parallel(model: Any) -> Any:
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        return model.module
    return getattr(model, _COMPILED, None)


def _inside(module: nn.Module) -> nn.Module | None:
    for name in (_COMPILED, _CHECKPOINTED):
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


def is_sharded(model: nn.Module) -> bool:
    """Whether ``fully_shard`` has cut the model's weights up."""
    return any(type(p).__name__ == "DTensor" for p in model.parameters()) or any(
        hasattr(m, "_get_fsdp_state") for m in model.modules()
    )
