"""Hand-made workloads for the tests: the smallest things that are shaped like `skipgrad.models.Workload`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class ToyBatch:
    args: tuple[Any, ...]
    target: torch.Tensor
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.target)

    def to(self, device: Any) -> ToyBatch:
        return ToyBatch(tuple(a.to(device) for a in self.args), self.target.to(device), self.kwargs)


class Block(nn.Module):
    def __init__(self, width: int, skip: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout, self.skip = nn.Dropout(dropout), skip

    def forward(self, x):
        f = self.second(self.dropout(torch.relu(self.first(x))))
        return x + f if self.skip else f


class Net(nn.Module):
    def __init__(self, width: int = 8, blocks: int = 2, skip: bool = True, dropout: float = 0.0, norm: bool = False):
        super().__init__()
        self.stem = nn.Linear(4, width)
        self.norm = nn.BatchNorm1d(width) if norm else nn.Identity()
        self.blocks = nn.Sequential(*[Block(width, skip, dropout) for _ in range(blocks)])
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.blocks(self.norm(self.stem(x))))


@dataclass(frozen=True)
class Toy:
    """Three classes told apart by which third of a line the sum of the inputs falls into."""

    make: Callable[[], nn.Module] = Net
    batch: int = 16
    name: str = "toy"
    task: str = "classification"
    fit: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        return self.make()

    def batches(self, seed: int) -> Iterator[ToyBatch]:
        random = torch.Generator().manual_seed(seed)
        while True:
            yield self._batch(torch.randn(self.batch, 4, generator=random))

    @property
    def example(self) -> ToyBatch:
        return next(self.batches(0))

    def loss(self, output: torch.Tensor, batch: ToyBatch) -> torch.Tensor:
        return nn.functional.cross_entropy(output, batch.target)

    def _batch(self, x: torch.Tensor) -> ToyBatch:
        return ToyBatch((x,), (x.sum(1) > -0.8).long() + (x.sum(1) > 0.8).long())


class Scaled:
    """A treatment: scales the last layer of each block; undo scales back."""

    def __init__(self, model: nn.Module, by: float) -> None:
        self.model, self.by, self.attached = model, by, []
        self._scale(by)

    def _scale(self, by: float) -> None:
        with torch.no_grad():
            for module in self.model.modules():
                if isinstance(module, Block):
                    module.second.weight.mul_(by)
                    module.second.bias.mul_(by)

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        self.attached.append(optimizer)

    def undo(self) -> None:
        self._scale(1 / self.by)
