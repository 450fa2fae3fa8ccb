"""What several claims do: train a built-in net under a recipe, and say how wrong it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Setting
from skipgrad.models import Workload, fit
from skipgrad.models.workload import Batch
from skipgrad.train import settle, train_trial
from skipgrad.train.protocols import WorkloadLike
from skipgrad.train.results import TrialResult

CHANCE = 90.0  # percent of ten classes got wrong by guessing


def digits(net: str, args: Mapping[str, Any], batch: int = 64) -> Workload:
    """A net on the digits."""
    return fit(net, dict(args), "digits", batch_size=batch)


def trained(workload: WorkloadLike, recipe: Recipe, setting: Setting) -> tuple[nn.Module, TrialResult]:
    """A net of the workload after a trial of the recipe, in evaluation mode, and the trial."""
    kept: list[nn.Module] = []
    settle(workload, recipe, setting.threads)
    result = train_trial(workload, recipe, prepare=kept.append, threads=setting.threads)
    return kept[0].eval(), result


def fresh(workload: Workload, seed: int) -> nn.Module:
    """A net of the workload as it is drawn, whose norms' statistics are those of the data."""
    with kept_random(torch.device("cpu")):
        seed_all(seed)
        model = workload.build()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of what follows
        batches = workload.batches(seed)
        with torch.no_grad():
            for _ in range(4 if norms else 0):
                batch = next(batches)
                model(*batch.args, **batch.kwargs)
        for norm in norms:
            norm.momentum = 0.1
    return model.eval()


def samples(workload: Workload, count: int, start: int = 0) -> tuple[Tensor, Tensor]:
    """The first samples of the data, as the net takes them, and their targets."""
    assert workload.data.size is not None
    batch = workload.prepare(*workload.data.gather(range(start, min(start + count, workload.data.size))))
    return batch.args[0], batch.target


def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of classes got wrong, in percent; in evaluation mode."""
    was = model.training
    model.eval()
    with torch.no_grad():
        wrong = (model(x).argmax(1) != y).float().mean()
    model.train(was)
    return 100 * float(wrong)


@dataclass(frozen=True)
class Own:
    """A workload of a claim's own tensors and net, for `train_trial`.

    Attributes:
        make: makes the net, its weights drawn from torch's generator.
        x, y: inputs and targets, samples first.
        objective: output and targets → the loss.
        batch_size: samples a batch.
        name: for messages.
        task: what is learned.
    """

    make: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    objective: Callable[[Tensor, Tensor], Tensor]
    batch_size: int = 20
    name: str = "a net of the lab"
    task: str = "classification"

    def build(self) -> nn.Module:
        """A new net in training mode."""
        return self.make().train()

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.objective(output, batch.target)

    @property
    def example(self) -> Batch:
        """The first batch of seed 0."""
        return next(self.batches(0))

    def batches(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, shuffled anew in each pass."""
        generator, number = torch.Generator().manual_seed(seed), 0
        while True:
            order = torch.randperm(len(self.x), generator=generator)
            for i in range(0, len(order) - self.batch_size + 1, self.batch_size):
                at = order[i : i + self.batch_size]
                if number >= start:
                    yield Batch((self.x[at],), {}, self.y[at], len(at))
                number += 1
