"""Losses as they are compared: a running mean, its best value, its first crossing of a target."""

from __future__ import annotations

import math

from skipgrad.train.results import TrialResult


def window(steps: int) -> int:
    """Length of the running mean over a trial of ``steps``: a twentieth of it, at least 3 (or all there is)."""
    return min(max(3, steps // 20), steps)


def smoothed(result: TrialResult) -> list[float]:
    """Mean of the last ``window`` losses, from the first step that has as many; non-finite ones left out.

    Entry i belongs to step ``window − 1 + i``. Empty for a trial that ended before its first window was full.
    """
    wide = window(result.trial.steps)
    losses = [p.loss for p in result.losses if math.isfinite(p.loss)]
    return [math.fsum(losses[i : i + wide]) / wide for i in range(len(losses) - wide + 1)]


def best_smoothed(result: TrialResult) -> tuple[int, float]:
    """Index in `losses` and value of the lowest smoothed loss; ``(-1, inf)`` when there is none."""
    values = smoothed(result)
    if not values:
        return -1, float("inf")
    at = min(range(len(values)), key=values.__getitem__)
    return at + window(result.trial.steps) - 1, values[at]


def first_at(result: TrialResult, target: float) -> int | None:
    """Index in `losses` of the first step whose smoothed loss is at most ``target``."""
    for i, value in enumerate(smoothed(result)):
        if value <= target:
            return i + window(result.trial.steps) - 1
    return None


def final_loss(result: TrialResult) -> float:
    """Mean loss of the last tenth of the steps asked for; infinite when the trial diverged or has none."""
    if result.diverged or not result.losses:
        return float("inf")
    tail = [p.loss for p in result.losses[-max(1, math.ceil(result.trial.steps / 10)) :]]
    return math.fsum(tail) / len(tail)


def score(result: TrialResult) -> float:
    """What rates are chosen by: the lowest smoothed loss, infinite for a trial that diverged."""
    return math.inf if result.diverged else best_smoothed(result)[1]
