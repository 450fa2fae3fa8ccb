"""The processes that train together: one, or those ``torchrun`` has started."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from skipgrad.train.aids.accumulate import labels, shares


class Group:
    """One process. `skipgrad.train.parallel.Several` is of several.

    Attributes:
        rank: this process' number, from 0.
        world: how many there are.
    """

    rank = 0
    world = 1

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model as it is called in this group."""
        return model

    def weights(self, batches: Sequence[Any]) -> list[float | None]:
        """What each micro-batch's mean loss counts for; None for a batch that comes alone."""
        if len(batches) == 1:
            return [None]
        return list(shares([labels(b.target) for b in batches]))

    def unsynchronised(self, model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients of all but the last micro-batch stay in their process."""
        return nullcontext()

    def mean(self, value: float) -> float:
        """The mean over the processes."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether it holds in one of the processes."""
        return flag
