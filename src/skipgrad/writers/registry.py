"""The writers by kind. The first line of a writer's file says its kind and what it is: help is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skipgrad.core.registry import Registry
from skipgrad.writers.base import RowWriter


@dataclass(frozen=True)
class WriterEntry:
    """A writer in the registry.

    Attributes:
        make: opens one on a folder; with ``name`` and ``config`` too when it keeps a config.
        extra: of skipgrad, that brings what it needs; empty when nothing is needed.
        package: the distribution it needs, as pip calls it; empty when there is none.
        keeps_config: whether it keeps what was run beside the rows.
    """

    make: Callable[..., RowWriter]
    extra: str = ""
    package: str = ""
    keeps_config: bool = False


WRITERS: Registry[WriterEntry] = Registry(
    "kind of export", WriterEntry, home="skipgrad.writers", group="skipgrad.writers", on_demand=True
)
