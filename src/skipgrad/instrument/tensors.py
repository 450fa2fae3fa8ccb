"""Finds and replaces the tensors that a call is given and returns, and says which calls are counted."""

from __future__ import annotations

import copy
import dataclasses
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in nested lists, tuples and dicts, in order: the order `replace_tensors` counts in."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from tensors_in(v)
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from tensors_in(v)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for f in dataclasses.fields(value):
            yield from tensors_in(getattr(value, f.name))


_NONE_IN = frozenset([int, float, bool, str, type(None), torch.dtype, torch.device])


def listed(args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The tensors of a call, as `tensors_in` finds them in ``(args, kwargs)``; quicker, for what asks at every call."""
    found: list[torch.Tensor] = []
    for values in (args, kwargs.values()) if kwargs else (args,):
        for value in values:
            if isinstance(value, torch.Tensor):
                found.append(value)
            elif type(value) not in _NONE_IN:
                found.extend(tensors_in(value))
    return found


def is_counted(args: Any, kwargs: Any) -> bool:
    """Whether a call is counted and so has an address; not when all its tensors are of whole numbers or truth values.

    Such calls work on positions and masks, and transformers makes other ones under a compiler, which would shift the
    count.
    """
    if args and isinstance(args[0], torch.Tensor) and args[0].dtype.is_floating_point:
        return True
    return _held(args) + _held(kwargs) not in (1, 2)


def _held(value: Any) -> int:
    """3 or more when there is a tensor of real or complex numbers, 1 when there are only others, 0 when there is none.

    A compiler reads this, too: plain loops.
    """
    if isinstance(value, torch.Tensor):
        return 3 if value.dtype.is_floating_point or value.dtype.is_complex else 1
    held = 0
    if isinstance(value, (list, tuple)):
        for v in value:
            held = max(held, _held(v))
            if held == 3:
                break
    elif isinstance(value, dict):
        for v in value.values():
            held = max(held, _held(v))
    return held


def mapped(value: Any, fn: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same structure with every tensor of `tensors_in` replaced; containers are new ones, other values the same."""
    if isinstance(value, torch.Tensor):
        return fn(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(v, fn) for v in value))
    if type(value) in (list, tuple):
        return type(value)(mapped(v, fn) for v in value)
    if type(value) is dict:
        return {k: mapped(v, fn) for k, v in value.items()}
    if not any(True for _ in tensors_in(value)):
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(v, fn) for v in value)
    twin = copy.copy(value)
    if isinstance(value, Mapping):
        if isinstance(value, UserDict):
            twin.data = dict(value.data)
        for key, v in value.items():
            twin[key] = mapped(v, fn)  # type: ignore[index]
    else:
        for f in dataclasses.fields(value):
            object.__setattr__(twin, f.name, mapped(getattr(value, f.name), fn))  # frozen ones too
    return twin


def describe(args: Any, kwargs: Any) -> str:
    """Shapes and dtypes of a call's tensors, e.g. ``"(1, 3, 224, 224) float32"``."""
    words = [f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors_in((args, kwargs))]
    return ", ".join(words) or "no tensors"


def first_of(out: Any) -> torch.Tensor | None:
    """The first tensor of what a call returned."""
    if isinstance(out, torch.Tensor):
        return out
    if type(out) is tuple and out and isinstance(out[0], torch.Tensor):
        return out[0]
    return None


def with_first(out: Any, y: torch.Tensor) -> Any:
    """What a call returned, with another first tensor."""
    return y if isinstance(out, torch.Tensor) else (y, *out[1:])
