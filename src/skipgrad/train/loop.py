"""The loop: a trial of a race and ``skipgrad train`` run this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from skipgrad.core.errors import DataError
from skipgrad.core.run import LossPoint
from skipgrad.instrument.threads import Threads
from skipgrad.train.clock import Clock
from skipgrad.train.protocols import WorkloadLike
from skipgrad.train.session import Session
from skipgrad.train.step import take_step


def advance(
    session: Session,
    batches: Iterator[Any],
    clock: Clock,
    *,
    trial: int = 0,
    first: int = 0,
    threads: Threads | None = None,
) -> Iterator[LossPoint]:
    """Takes the steps from ``first`` on, one each time the next is asked for, and gives its loss.

    What the caller does between two steps is outside the clock. A loss that is not finite ends it.

    Args:
        session: what is trained.
        batches: its micro-batches, from step ``first`` on.
        clock: seconds of training.
        trial: the number losses are recorded under.
        first: the first step.
        threads: chooses torch's threads by the steps; None leaves their number alone.

    Raises:
        ModelError: when the model's forward, backward or the loss raises.
        DataError: when the data end before the steps do.
    """
    recipe = session.recipe
    for number in range(first, recipe.steps):
        compiling = recipe.compile and number == first
        with clock.paused() if compiling else nullcontext():
            window = [_next(batches, number, session.workload) for _ in range(recipe.accumulate)]
            with threads.step(number, fixed=recipe.compile) if threads is not None else nullcontext():
                loss = take_step(session, number, window)
            if session.steered and loss - loss == 0:
                session.treatment.loss(loss)
        point = LossPoint(trial, number, loss, clock.seconds())
        with clock.paused():
            yield point
        if loss - loss != 0:  # infinite, or no number
            return


def _next(batches: Iterator[Any], number: int, workload: WorkloadLike) -> Any:
    batch = next(batches, None)
    if batch is None:
        raise DataError(
            f"training {workload.name}",
            received=f"no batch at step {number}: the data ended",
            todo="let batches(seed) start over when the data end",
        )
    return batch
