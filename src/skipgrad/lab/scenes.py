"""Scenes for a detector, as a workload; and how well it detects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skipgrad.models.data.detection import Target
from skipgrad.models.workload import Batch
from skipgrad.train.job.precision import Detections


@dataclass(frozen=True)
class Scenes:
    """A workload of scenes for a detector, whose forward returns its losses.

    Attributes:
        make: makes the detector.
        x, targets: images and what is on them.
        batch_size: images a batch.
        name: for messages.
        task: what is learned.
    """

    make: Callable[[], nn.Module]
    x: Tensor
    targets: Sequence[Target]
    batch_size: int = 8
    name: str = "a detector on scenes"
    task: str = "detection"

    def build(self) -> nn.Module:
        """A new detector in training mode."""
        return self.make().train()

    def loss(self, output: dict[str, Tensor], _batch: Batch) -> Tensor:
        """The sum of the detector's losses."""
        return torch.stack(list(output.values())).sum()

    @property
    def example(self) -> Batch:
        """The first batch of seed 0."""
        return next(self.batches(0))

    def batches(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, shuffled anew in each pass."""
        generator, number = torch.Generator().manual_seed(seed), 0
        while True:
            order = torch.randperm(len(self.x), generator=generator).tolist()
            for i in range(0, len(order) - self.batch_size + 1, self.batch_size):
                at = order[i : i + self.batch_size]
                if number >= start:
                    yield Batch(([self.x[k] for k in at], [self.targets[k] for k in at]), {}, None, len(at))
                number += 1


def mean_average_precision(model: nn.Module, x: Tensor, targets: Sequence[Target]) -> dict[str, float]:
    """COCO's mean average precision (over IoU .5 to .95) and that at IoU .5, of boxes."""
    scored = Detections()
    with torch.no_grad():
        for at in range(0, len(x), 50):
            scored.add(model(list(x[at : at + 50])), targets[at : at + 50])
    return scored.figures()
