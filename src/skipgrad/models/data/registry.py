"""The data by name. The first line of an entry's file says how it is referred to and what it is: help is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skipgrad.core.registry import Registry

if TYPE_CHECKING:
    from skipgrad.models.data.source import DataSource


@dataclass(frozen=True)
class DataEntry:
    """Data in the registry.

    Attributes:
        load: loads them, from the reference; from the reference and a folder where they are in one.
        example: how they are referred to: ``"digits"``, ``"cifar10:DIR"``.
        extra: of skipgrad, that brings what they need; empty when nothing is needed.
        optional: whether the part behind the colon may be given or left out: ``text``, ``text:FILE``.
        package: the distribution they come from, or are decoded with, as pip calls it; empty when there is none.
    """

    load: Callable[..., DataSource]
    example: str
    extra: str = ""
    package: str = ""
    optional: bool = False

    @property
    def folder(self) -> bool:
        """Whether they are in a folder that the reference names."""
        return ":" in self.example


DATA: Registry[DataEntry] = Registry(
    "data", DataEntry, home="skipgrad.models.data", group="skipgrad.data", on_demand=True
)
