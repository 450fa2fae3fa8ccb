"""Every block by name, with a small example: what the conformity tests run over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from skipgrad.core import Registry

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BlockEntry:
    """A block in the registry.

    Attributes:
        make: builds a small one.
        inputs: shapes of the tensors its forward takes.
        outputs: shapes of the tensors it returns.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


BLOCKS: Registry[BlockEntry] = Registry("block", BlockEntry, home="skipgrad.blocks", group="skipgrad.blocks")

IMAGE, HALF = (2, 4, 8, 8), (2, 8, 4, 4)  # shapes of the small examples: as it comes, and downsampled


def enter(name: str, make: Callable[[], nn.Module], inputs: Iterable[Shape], outputs: Iterable[Shape]) -> None:
    """Registers a block with its small example."""
    BLOCKS.register(name, BlockEntry(make, tuple(inputs), tuple(outputs)))
