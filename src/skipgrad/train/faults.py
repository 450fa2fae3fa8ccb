"""What a user's model raised, said in a form that helps: which module, with what inputs, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import ModelError, SkipgradError


@contextmanager
def explained(model: nn.Module, doing: str, batch: Any = None) -> Iterator[None]:
    """Turns an exception of the model's own code into a `ModelError`; skipgrad's own errors pass through."""
    try:
        yield
    except SkipgradError:
        raise
    except Exception as error:
        raise as_model_error(error, model, doing, batch) from error


def as_model_error(error: Exception, model: nn.Module, doing: str, batch: Any = None) -> ModelError:
    """The same as `explained`, for an exception in hand."""
    where = raised_in(error, model)
    inputs = describe_inputs(batch)
    if out_of_memory(error):
        return ModelError(
            f"{doing}: out of memory",
            where=where,
            received=_join(_first_line(error), inputs),
            todo="use a smaller batch, a narrower model or precision='bfloat16'",
        )
    return ModelError(
        f"{doing}: the model raised {type(error).__name__}",
        where=where,
        received=_join(_first_line(error), inputs),
        todo="mend the model, or give it data it accepts (`skipgrad find MODEL` runs its forward alone)",
    )


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text.lower() or "can't allocate memory" in text)
    )


def raised_in(error: BaseException, model: nn.Module) -> str | None:
    """Path (and class) of the innermost module of ``model`` whose code the exception came through."""
    names = {id(m): name for name, m in model.named_modules()}
    found = None
    trace = error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and id(owner) in names:
            found = f"{names[id(owner)] or 'the model itself'} ({type(owner).__name__})"
        trace = trace.tb_next
    return found


def describe_inputs(batch: Any) -> str:
    """Shapes and dtypes of a batch's arguments, as text."""
    parts = [_describe(a) for a in getattr(batch, "args", ())]
    parts += [f"{k}={_describe(v)}" for k, v in getattr(batch, "kwargs", {}).items()]
    return f"inputs {', '.join(parts)}" if parts else ""


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return type(value).__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:400] if lines else type(error).__name__


def _join(*parts: str) -> str:
    return "; ".join(p for p in parts if p)
