"""The validation loss of a trial while it trains, outside its clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from skipgrad.core.recipe import Precision, Recipe
from skipgrad.core.run import LossPoint
from skipgrad.instrument.faults import explained
from skipgrad.models import Workload
from skipgrad.models.data.parts import some
from skipgrad.train.job.evaluate import evaluate

POINTS = 40  # evaluations a trial, at most
MOST = 512  # samples they are on


def parts(workload: Workload, holdout: float | None) -> tuple[Workload, Workload | None]:
    """What is trained on, and what the race is judged by; the latter is None where the training loss is.

    Args:
        workload: model and data.
        holdout: share of the data held out where they have no test part; None for the test part or nothing, 0 for
            the training loss whatever there is.

    Raises:
        DataError: what is left is less than a batch.
    """
    if holdout == 0:
        return workload, None
    train, held = workload.held_out(holdout or 0.0)
    if held is None or held.data.size is None:
        return workload, None
    size = held.data.size
    if size > MOST:  # evenly spread, so that data that lie in the order of their classes do no harm
        held = replace(held, data=some(held.data, [i * size // MOST for i in range(MOST)]))
    return train, held


def interval(steps: int) -> int:
    """Steps between two evaluations."""
    return math.ceil(steps / POINTS)


def points(steps: int) -> int:
    """Evaluations of a trial that runs to its end."""
    return math.ceil(steps / interval(steps))


def watcher(held: Workload, recipe: Recipe) -> Callable[[nn.Module, LossPoint], LossPoint | None]:
    """The function that evaluates after a step where it is due: the validation loss, at the clock of the step."""
    device, every = torch.device(recipe.device), interval(recipe.steps)
    precision: Precision = recipe.precision  # type: ignore[assignment]

    def look(model: nn.Module, point: LossPoint) -> LossPoint | None:
        if not math.isfinite(point.loss) or ((point.step + 1) % every and point.step + 1 != recipe.steps):
            return None
        with explained(model, f"evaluating {held.name} on its held-out part"):
            told = evaluate(model, held, device=device, precision=precision)
        assert told is not None
        return replace(point, loss=told["loss"])

    return look
