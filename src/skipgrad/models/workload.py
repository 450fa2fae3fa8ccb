"""A model and data that fit each other: what training, measuring and searching work on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from skipgrad.models.augment import augmented
from skipgrad.models.data.parts import parted, readable
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
        augment: what is drawn anew for each sample of the training: none, flip, crop-flip, resized-crop-flip.
    """

    name: str
    task: Task
    fit: tuple[str, ...]
    model: ModelSource
    data: DataSource
    batch_size: int
    prepare: Callable[[Any, Any], Batch]
    objective: Callable[..., Tensor]
    augment: str = "none"

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

    def batches(
        self,
        seed: int,
        start: int = 0,
        *,
        group: int = 1,
        part: tuple[int, int] = (0, 1),
        workers: int = 0,
        every_generator: bool = False,
    ) -> Iterator[Batch]:
        """Batches without end, in an order that depends on the seed alone.

        Each pass over the data is shuffled anew; what is left over at its end is dropped. Batches are drawn with
        generators of their own: they neither read nor move torch's global one.

        Args:
            seed: of the order.
            start: number of batches to leave out, so that a resumed run goes on where it stopped.
            group: a pass ends with a whole number of so many batches (the micro-batches of a step in all processes).
            part: of so many processes the one whose batches are given: (its number from 0, how many).
            workers: processes that load and decode; the batches are the same without.
            every_generator: what a data set draws from numpy and Python is seeded by the batch, too, as what it draws
                from torch always is; else it comes from the global generators.

        Raises:
            DataError: a sample holds values that are not finite.
        """
        if self.data.stream is not None:
            yield from self._streamed(seed, start, part)
            return
        order = _Order(self, seed, group, part, every_generator)
        if workers:
            loader = DataLoader(
                order,
                batch_size=None,
                sampler=_From(start),
                num_workers=workers,
                generator=torch.Generator().manual_seed(seed),
                prefetch_factor=2,
            )
            yield from loader
            return
        number = start
        while True:
            yield order[number]
            number += 1

    def _streamed(self, seed: int, start: int, part: tuple[int, int]) -> Iterator[Batch]:
        assert self.data.stream is not None
        stream = self.data.stream(seed, self.batch_size)
        for number, (x, y) in enumerate(stream):
            if number % part[1] == part[0] and number // part[1] >= start:
                check_finite(x, range(number * self.batch_size, (number + 1) * self.batch_size), self.data.ref)
                yield self.prepare(x, y)

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, in order; the last batch may be smaller. Nothing is augmented."""
        size = self.data.size
        assert size is not None, "a stream has no end"
        for at in range(0, size, self.batch_size):
            indices = list(range(at, min(size, at + self.batch_size)))
            with _apart(at):
                x, y = self.data.gather(indices)
            check_finite(x, indices, self.data.ref)
            yield self.prepare(x, y)

    def readable(self) -> tuple[Workload, list[str]]:
        """The same without the samples that cannot be read, and what is wrong with each. Reads all of them."""
        data, bad = readable(self.data)
        return replace(self, data=data), bad

    def held_out(self, share: float) -> tuple[Workload, Workload | None]:
        """A workload to train on, and one to evaluate on: the data's test part where they have one, else a share.

        Which samples are held out does not depend on any seed of the training.

        Raises:
            DataError: what is left is less than a batch.
        """
        train, held = parted(self.data, share, self.batch_size)
        return replace(self, data=train), None if held is None else replace(self, data=held, augment="none")


class _Order(Dataset[Batch]):
    """The n-th batch of a process, whichever were asked for before."""

    def __init__(self, work: Workload, seed: int, group: int, part: tuple[int, int], every_generator: bool) -> None:
        size, (rank, world) = work.data.size, part
        assert size is not None
        self._work, self._seed, self._rank, self._world = work, seed, rank, world
        self._every = every_generator and work.data.foreign
        # Of one process's batches; the processes' turns within a step.
        self._each = size // (work.batch_size * group) * group // world
        assert self._each, "less data than a step"
        self._epoch, self._indices = -1, torch.empty(0)

    def __getitem__(self, number: int) -> Batch:
        work, data = self._work, self._work.data
        epoch, at = divmod(number, self._each)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self._seed * 1_000_003 + epoch) % (1 << 63))
            assert data.size is not None
            self._indices, self._epoch = torch.randperm(data.size, generator=generator), epoch
        place = at * self._world + self._rank
        indices = self._indices[place * work.batch_size : (place + 1) * work.batch_size].tolist()
        with _apart(self._seed * 1_000_003 + number * self._world + self._rank, self._every):
            x, y = data.gather(indices)
        check_finite(x, indices, data.ref)
        if work.augment != "none":
            x, y = augmented(work.augment, x, y, [(self._seed * 1_000_003 + epoch) * 1_000_033 + i for i in indices])
        return work.prepare(x, y)


class _From(Sampler[int]):
    """The numbers from one on, without end."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return count(self._start)


class _apart:
    """Random numbers a data set draws come from a seed of the batch, and leave the global generator as it was."""

    def __init__(self, seed: int, every_generator: bool = False) -> None:
        self.seed, self.every = seed % (1 << 63), every_generator

    def __enter__(self) -> None:
        self.state = torch.random.get_rng_state()
        torch.default_generator.manual_seed(self.seed)
        if self.every:
            self.numpy, self.python = np.random.get_state(), random.getstate()
            np.random.seed(self.seed % 2**32)
            random.seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.random.set_rng_state(self.state)
        if self.every:
            np.random.set_state(self.numpy)
            random.setstate(self.python)


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, (Tensor, nn.Module)):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(entry, device) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_to(entry, device) for entry in value)
    return value
