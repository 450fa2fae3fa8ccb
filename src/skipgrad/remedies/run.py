"""A trial run of a model on an example."""

from __future__ import annotations

from typing import Any

from torch import nn


def call(model: nn.Module, example: Any, kwargs: dict[str, Any] | None) -> Any:
    """Runs ``model`` on an example given as a tensor or as a tuple of arguments."""
    args = tuple(example) if isinstance(example, tuple | list) else () if example is None else (example,)
    return model(*args, **(kwargs or {}))
