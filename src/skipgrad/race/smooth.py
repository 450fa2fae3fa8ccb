"""Makes losses comparable: their running mean, its lowest value, and the step at which it first reaches a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

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
    """Index in `losses` of the first step whose smoothed loss is at most ``target``.

    A net that is grown while it trains is not there before it is whole.
    """
    for i, value in enumerate(smoothed(result), window(result.trial.steps) - 1):
        if value <= target and result.losses[i].step >= result.whole_from:
            return i
    return None


# A loss has fallen when two smoothed losses differ by at least so many standard deviations of such a difference. Four,
# not two, because the best loss is the lowest of some twenty windows that do not overlap.
DEVIATIONS = 4.0
# A fall by a smaller share of the first loss is none, however quiet the curve is (as in training on one batch).
SMALLEST_FALL = 1e-3
# With fewer losses than these their spread cannot be told.
FEWEST = 10


def noise(losses: Sequence[float]) -> float:
    """The standard deviation of a single loss about its trend; 0 for fewer than three losses.

    It is the median size of the second differences, divided by what that is for normal noise of deviation 1. Second
    differences contain neither level nor slope, so that a curve which falls steeply but quietly has next to no noise;
    and a spike does not move a median. Losses that are not finite are left out.
    """
    kept = [v for v in losses if math.isfinite(v)]
    bends = [abs(b - a) for a, b in pairwise(b - a for a, b in pairwise(kept))]
    # a − 2b + c has √6 times the deviation of each; half of a normal's values are within 0.6745 deviations of its mean.
    return median(bends) / (0.6745 * math.sqrt(6)) if bends else 0.0


def trains(result: TrialResult) -> bool:
    """Whether the loss ever fell by more than its noise, from the first smoothed loss to the best one.

    The noise is taken over the first two windows and over the whole trial, and the larger of the two counts: a loss may
    be restless at first and quiet on the plateau, or the other way round. A loss that falls and comes back has trained;
    one that only rose, or ended before its first window was full, has not.
    """
    values = smoothed(result)
    if not values:
        return False
    wide = window(result.trial.steps)
    losses = [p.loss for p in result.losses]
    one = max(noise(losses[: max(2 * wide, FEWEST)]), noise(losses))
    fall = values[0] - min(values)
    return fall > max(DEVIATIONS * one * math.sqrt(2 / wide), SMALLEST_FALL * abs(values[0]))


def final_loss(result: TrialResult) -> float:
    """Mean loss of the last tenth of the steps asked for; infinite when the trial diverged or has none."""
    if result.diverged or not result.losses:
        return float("inf")
    tail = [p.loss for p in result.losses[-max(1, math.ceil(result.trial.steps / 10)) :]]
    return math.fsum(tail) / len(tail)


def score(result: TrialResult) -> float:
    """The number by which the best rate is chosen, lowest first: the best smoothed loss, infinite after divergence."""
    return math.inf if result.diverged else best_smoothed(result)[1]
