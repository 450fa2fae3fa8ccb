"""What a workload, a batch and a treatment must have to be trained. `skipgrad.models.Workload` is one such workload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from skipgrad.core.run import LossPoint


class BatchLike(Protocol):
    """Arguments of one forward, and its target."""

    @property
    def args(self) -> tuple[Any, ...]: ...
    @property
    def kwargs(self) -> dict[str, Any]: ...
    def to(self, device: Any, /) -> BatchLike: ...


class WorkloadLike(Protocol):
    """A model to build, data to train it on and the loss between them."""

    @property
    def name(self) -> str: ...
    @property
    def example(self) -> BatchLike: ...
    def build(self) -> nn.Module: ...
    def batches(self, seed: int, /) -> Iterator[Any]: ...
    def loss(self, output: Any, batch: Any, /) -> torch.Tensor: ...


class Treatment(Protocol):
    """A remedy that has been applied to a model. It may have `lines`, Python to paste that does the same.

    One that goes by the loss has ``lasts(steps)`` and ``loss(value)``; one that leaves blocks out at first has `whole`;
    one that brings its own optimizer makes it by ``optimizer(parameters, weight_decay)``.
    """

    def attach(self, optimizer: torch.optim.Optimizer, /) -> Any: ...
    def undo(self) -> Any: ...


Prepare = Callable[[nn.Module], Treatment | None]
# What it returns may have `scaled_by(scaler)`, as a ledger has: it is then told of the gradient scaler of float16.
Observe = Callable[[nn.Module, torch.optim.Optimizer], AbstractContextManager[Any] | None]
OnStep = Callable[[LossPoint], Any]
Stop = Callable[[LossPoint], bool]
