"""A model and data that fit each other: what training, measuring and searching work on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.models.data.source import DataSource, Task, check_finite
from skipgrad.models.source import ModelSource


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one step.

    Attributes:
        args: positional inputs of the forward.
        kwargs: keyword inputs.
        target: what the loss compares the output with.
        size: samples in it.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Any
    size: int

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(_to(self.args, device), _to(self.kwargs, device), _to(self.target, device), self.size)


@dataclass(frozen=True)
class Workload:
    """A model fitted to data, or data to a model.

    Attributes:
        name: the two references.
        task: what is learned.
        fit: plain sentences that say what was done to make them fit.
        model: the model's source, its arguments fitted.
        data: the data.
        batch_size: samples a batch.
        prepare: makes a batch of gathered samples.
        objective: the loss of an output and a batch.
    """

    name: str
    task: Task
    fit: tuple[str, ...]
    model: ModelSource
    data: DataSource
    batch_size: int
    prepare: Callable[[Any, Any], Batch]
    objective: Callable[[Any, Batch], Tensor]

    def build(self) -> nn.Module:
        """A new module in training mode, weights drawn from torch's global generator."""
        return self.model.build().train()

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """The scalar training loss of what the model returned for a batch."""
        return self.objective(output, batch)

    @property
    def example(self) -> Batch:
        """The first batch of seed 0."""
        return next(self.batches(0))

    def batches(self, seed: int, start: int = 0) -> Iterator[Batch]:
        """Batches without end, in an order that depends on the seed alone.

        Each pass over the data is shuffled anew; what is left over at its end is dropped. Batches are drawn with
        generators of their own: they neither read nor move torch's global one.

        Args:
            seed: of the order.
            start: number of batches to leave out, so that a resumed run goes on where it stopped.

        Raises:
            DataError: a sample holds values that are not finite.
        """
        if self.data.stream is not None:
            stream = self.data.stream(seed, self.batch_size)
            for number, (x, y) in enumerate(stream):
                if number >= start:
                    check_finite(x, range(number * self.batch_size, (number + 1) * self.batch_size), self.data.ref)
                    yield self.prepare(x, y)
            return
        assert self.data.size is not None
        each = self.data.size // self.batch_size
        number = start
        while True:
            epoch, position = divmod(number, each)
            generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % (1 << 63))
            order = torch.randperm(self.data.size, generator=generator)
            for at in range(position, each):
                indices = order[at * self.batch_size : (at + 1) * self.batch_size].tolist()
                with _apart(seed * 1_000_003 + number):
                    x, y = self.data.gather(indices)
                check_finite(x, indices, self.data.ref)
                yield self.prepare(x, y)
                number += 1


class _apart:
    """Random numbers a data set draws come from a seed of the batch, and leave the global generator as it was."""

    def __init__(self, seed: int) -> None:
        self.seed = seed % (1 << 63)

    def __enter__(self) -> None:
        self.state = torch.random.get_rng_state()
        torch.default_generator.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.random.set_rng_state(self.state)


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, (Tensor, nn.Module)):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(entry, device) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to(entry, device) for entry in value)
    return value
