"""The processes that train together: one, or those ``torchrun`` has started."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from skipgrad.instrument.wrappers import unwrap
from skipgrad.train.aids.accumulate import labels, shares
from skipgrad.train.device import device_of


class Group:
    """One process. `skipgrad.train.parallel.Several` is of several.

    Attributes:
        rank: this process' number, from 0.
        world: how many there are.
        strategy: ddp: each has the whole model (one process, too); fsdp: each has a part of the weights.
    """

    rank = 0
    world = 1
    strategy = "ddp"

    def device(self, name: str) -> torch.device:
        """The device of that name, or this process' own of that kind."""
        return device_of(name)

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

    def states(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole state of both."""
        return unwrap(model).state_dict(), optimizer.state_dict()

    def load(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict[str, Any], moments: dict[str, Any]
    ) -> None:
        """Puts it back."""
        unwrap(model).load_state_dict(weights)
        optimizer.load_state_dict(moments)

    def gathered(self, value: Any) -> list[Any]:
        """Each process' value, by rank."""
        return [value]

    def mean(self, value: float) -> float:
        """The mean over the processes."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether it holds in one of the processes."""
        return flag
