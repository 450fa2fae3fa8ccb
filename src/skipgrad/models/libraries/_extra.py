"""Importing an optional library, or saying which extra brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

from skipgrad.core import MissingExtra


def optional(module: str, ref: str, extra: str = "models") -> ModuleType:
    """Imports an optional library.

    Raises:
        MissingExtra: it is not installed; names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"resolving {ref!r}",
            received=f"the library {error.name or module} is not installed",
            todo=f"pip install 'skipgrad[{extra}]'",
        ) from error
