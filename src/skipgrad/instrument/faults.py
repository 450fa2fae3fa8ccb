"""Turns what a user's model raised into an error that helps: in which module, on what inputs, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import ModelError, SkipgradError
from skipgrad.instrument.tensors import describe


@contextmanager
def explained(
    model: nn.Module, doing: str, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Turns an exception of the model's own code into a `ModelError`; skipgrad's own errors pass through."""
    try:
        yield
    except SkipgradError:
        raise
    except Exception as error:
        raise as_model_error(error, model, doing, args, kwargs) from error


def as_model_error(
    error: Exception,
    model: nn.Module,
    doing: str,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> ModelError:
    """The same as `explained`, for an exception in hand."""
    received = f"{type(error).__name__}: {shorten(str(error))}"
    if args or kwargs:
        received += f" – on inputs {describe(args, kwargs or {})}"
    todo = "mend the forward, or give the model inputs of the shapes and dtypes it takes"
    if out_of_memory(error):
        doing += ": out of memory"
        todo = "use a smaller batch, a narrower model or precision='bfloat16'"
    return ModelError(doing, where=where_raised(error, model), received=received, todo=todo)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text.lower() or "can't allocate memory" in text)
    )


def where_raised(error: BaseException, model: nn.Module) -> str:
    """The innermost module of ``model`` whose code the exception came through: its path and class."""
    names = {id(m): name for name, m in model.named_modules()}
    found = f"the forward of {type(model).__name__}"
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and names.get(id(owner)):
            found = f"module {names[id(owner)]!r} ({type(owner).__name__})"
        trace = trace.tb_next
    return found


def called(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], doing: str) -> Any:
    """The model's output.

    Raises:
        ModelError: the forward raised; with its message, the module it raised in and the shapes it was given.
    """
    with explained(model, doing, args, kwargs):
        return model(*args, **kwargs)


def first_line(error: BaseException, most: int = 300) -> str:
    """The first line of an exception's message."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else "no message"


def shorten(message: str, most: int = 600) -> str:
    """A foreign message, cut to a length one can read."""
    message = message.strip() or "no message"
    return message if len(message) <= most else message[:most] + " …"
