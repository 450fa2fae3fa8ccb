"""Running a model once, and saying where it raised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core import ModelError, SkipgradError
from skipgrad.models.source import shorten


def run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], doing: str) -> Any:
    """The model's output.

    Raises:
        ModelError: the forward raised; with its message, the module it raised in and the shapes it was given.
    """
    try:
        return model(*args, **kwargs)
    except SkipgradError:
        raise
    except Exception as error:
        module = raised_in(model, error)
        raise ModelError(
            doing,
            where=f"module {module!r} of {type(model).__name__}"
            if module
            else f"the forward of {type(model).__name__}",
            received=f"{type(error).__name__}: {shorten(str(error))} – on inputs {describe(args, kwargs)}",
            todo="check that the model takes inputs of these shapes and dtypes; mend the forward or give other data",
        ) from error


def raised_in(model: nn.Module, error: BaseException) -> str:
    """Path of the deepest module whose code was running when the error was raised; empty for the model itself."""
    names = {id(module): name for name, module in model.named_modules()}
    trace, deepest = error.__traceback__, ""
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            deepest = names.get(id(owner), deepest) or deepest
        trace = trace.tb_next
    return deepest


def describe(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Shapes and dtypes of inputs, as text."""

    def one(value: Any) -> str:
        if isinstance(value, Tensor):
            return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(map(one, value)) + "]"
        return repr(value)

    parts = [one(value) for value in args] + [f"{key}={one(value)}" for key, value in kwargs.items()]
    return ", ".join(parts)


def on_meta(value: Any) -> Any:
    """The same inputs without memory."""
    if isinstance(value, Tensor):
        return torch.empty_like(value, device="meta")
    if isinstance(value, dict):
        return {key: on_meta(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(on_meta(entry) for entry in value)
    return value
