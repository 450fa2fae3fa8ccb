"""The libraries by prefix. The first line of an entry's file has an example and says what it is: help is made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skipgrad.core.registry import Registry

if TYPE_CHECKING:
    from skipgrad.models.source import ModelSource


@dataclass(frozen=True)
class Library:
    """A library that models come from.

    Attributes:
        resolve: a `ModelSource` from the whole reference, the name behind the prefix, and the constructor's arguments.
        example: a reference to one of its models: ``"timm:vit_tiny_patch16_224"``.
        extra: of skipgrad, that brings it; empty when nothing is needed.
        package: its distribution, as pip calls it; empty when there is none.
    """

    resolve: Callable[[str, str, dict[str, Any]], ModelSource]
    example: str
    extra: str = ""
    package: str = ""


LIBRARIES: Registry[Library] = Registry(
    "model library", Library, home="skipgrad.models.libraries", group="skipgrad.models", on_demand=True
)
