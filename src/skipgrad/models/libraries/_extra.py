"""Importing an optional library, or saying which extra brings it."""

from __future__ import annotations

import importlib
from types import ModuleType

from skipgrad.core.extras import wanted


def optional(module: str, ref: str, extra: str = "models") -> ModuleType:
    """Imports an optional library.

    Raises:
        MissingExtra: it is not installed; names the extra.
    """
    with wanted(extra, f"resolving {ref!r}"):
        return importlib.import_module(module)
