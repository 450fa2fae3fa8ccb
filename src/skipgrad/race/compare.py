"""Judges, seed by seed, what a cure did to its patient. Pure arithmetic on losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from skipgrad.core.errors import BadInput
from skipgrad.core.run import Cure, CureState
from skipgrad.core.units import number, ratio
from skipgrad.race.smooth import best_smoothed, final_loss, first_at, smoothed, trains
from skipgrad.train.results import TrialResult

HELPED_BELOW = 0.9
WORSE_ABOVE = 1.1
# Two best losses differ by a clear margin when their distance is at least this share of the whole fall of the loss.
CLEAR_MARGIN = 0.1


@dataclass(frozen=True)
class SeedVerdict:
    """One seed of a comparison.

    Attributes:
        seed: the seed.
        steps: steps to the patient's best smoothed loss, cured / patient; None when the cure never reached it.
        seconds: the same in seconds of training.
        weight: the number that the verdict is made from; below 1 the cure is better. It is 0 where the patient diverged
            or its best loss is higher by a clear margin; infinite where the cure diverged, or its best loss is higher
            by a clear margin. Else it is ``steps`` where the cure reached the patient's best loss. Where the cure just
            missed that, it is the steps the cure took to its own best loss, over those the patient took to the same
            loss; at least 1.
        patient_best: lowest smoothed loss of the patient.
        best: lowest smoothed loss of the cure.
        patient_trains: whether the patient's loss fell by more than its noise (`trains`).
        trains: the same of the cure.
        patient_first: the patient's first smoothed loss; infinite where there is none.
    """

    seed: int
    steps: float | None
    seconds: float | None
    weight: float
    patient_best: float
    best: float
    patient_trains: bool = True
    trains: bool = True
    patient_first: float = math.inf


def compare(patient: Sequence[TrialResult], cure: Sequence[TrialResult], remedy: str) -> Cure:
    """Judges a cure against its patient, each at its best rate, over the seeds both were run on.

    ``"helped"``: the median over seeds is below .9 and every seed is below 1. ``"worse"``: every seed is above 1.1.
    Else ``"no change"``. A seed counts as in `SeedVerdict.weight`.

    A patient does not train when its loss falls on fewer than half of the seeds (`trains`). Its best loss is then a
    matter of chance, so no ratio of steps or seconds is given; and only a cure that itself trains has helped.

    Args:
        patient: the patient's trials, one a seed.
        cure: the cure's trials, one a seed.
        remedy: the cure's name.

    Raises:
        BadInput: when no seed was run on both.
    """
    verdicts = judge_seeds(patient, cure)
    if not verdicts:
        raise BadInput(
            f"comparing {remedy} with the patient",
            received=f"seeds {[r.trial.seed for r in cure]} against {[r.trial.seed for r in patient]}",
            todo="run both on the same seeds",
        )
    seeds = {v.seed for v in verdicts}
    ours = [r for r in cure if r.trial.seed in seeds]
    theirs = [r for r in patient if r.trial.seed in seeds]
    weights = [v.weight for v in verdicts]
    state: CureState = "no change"
    if median(weights) < HELPED_BELOW and max(weights) < 1:
        state = "helped"
    elif min(weights) > WORSE_ABOVE:
        state = "worse"
    alive = _half([v.patient_trains for v in verdicts])
    if state == "helped" and not alive and not _half([v.trains for v in verdicts]):
        state = "no change"
    steps = [v.steps if alive else None for v in verdicts]
    seconds = [v.seconds if alive else None for v in verdicts]
    return Cure(
        remedy,
        state,
        _reason(verdicts, ours, theirs, state),
        final_loss=_finite(median(final_loss(r) for r in ours)),
        patient_final_loss=_finite(median(final_loss(r) for r in theirs)),
        steps_ratio=_middle(steps),
        seconds_ratio=_middle(seconds),
        steps_spread=_spread(steps),
        seconds_spread=_spread(seconds),
        best_loss=_finite(median(v.best for v in verdicts)),
        patient_best_loss=_finite(median(v.patient_best for v in verdicts)),
        rate=ours[0].trial.rate,
        patient_rate=theirs[0].trial.rate,
        seeds=len(verdicts),
        lines=ours[-1].lines,
        patient_trains=alive,
        patient_first_loss=_finite(median(v.patient_first for v in verdicts)),
    )


def judge_seeds(patient: Sequence[TrialResult], cure: Sequence[TrialResult]) -> list[SeedVerdict]:
    """One verdict for each seed that both ran, in the patient's order."""
    cures = {r.trial.seed: r for r in cure}
    return [_judge(r, cures[r.trial.seed]) for r in patient if r.trial.seed in cures]


def _judge(patient: TrialResult, cure: TrialResult) -> SeedVerdict:
    at, target = best_smoothed(patient)
    own_at, own = best_smoothed(cure)
    reached = first_at(cure, target) if not cure.diverged and math.isfinite(target) else None
    steps = seconds = None
    if reached is not None:
        steps = (reached + 1) / (at + 1)
        spent = patient.losses[at].seconds
        seconds = cure.losses[reached].seconds / spent if spent > 0 else None
    return SeedVerdict(
        patient.trial.seed,
        steps,
        seconds,
        _weight(patient, cure, steps, own_at, own, target),
        target,
        own,
        trains(patient),
        trains(cure),
        next(iter(smoothed(patient)), math.inf),
    )


def _weight(
    patient: TrialResult, cure: TrialResult, steps: float | None, own_at: int, own: float, target: float
) -> float:
    # The order matters: who diverged is settled first, then who is clearly lower, and only then who was faster. A cure
    # that is quick to a loss it then stays far above has not won.
    if cure.diverged or not math.isfinite(own):
        return 1.0 if patient.diverged else math.inf
    if patient.diverged or not math.isfinite(target):
        return 0.0
    fall = max(smoothed(patient)[0], smoothed(cure)[0]) - min(target, own)
    if abs(target - own) >= CLEAR_MARGIN * fall > 0:
        return 0.0 if own < target else math.inf
    if steps is not None:
        return steps
    theirs = first_at(patient, own)
    assert theirs is not None, "the patient's best is lower than the cure's, so it passed it"
    return max(1.0, (own_at + 1) / (theirs + 1))


def _middle(values: list[float | None]) -> float | None:
    """The median, in which None counts as infinity ("never reached"); None unless most seeds have a figure."""
    if 2 * sum(v is not None for v in values) <= len(values):
        return None
    return median(math.inf if v is None else v for v in values)


def _half(answers: list[bool]) -> bool:
    return 2 * sum(answers) >= len(answers)


def _spread(values: list[float | None]) -> tuple[float, float] | None:
    there = [v for v in values if v is not None]
    return (min(there), max(there)) if _middle(values) is not None else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _reason(verdicts: list[SeedVerdict], cure: list[TrialResult], patient: list[TrialResult], state: CureState) -> str:
    many = len(verdicts)
    seeds = f"{many} seeds" if many > 1 else "one seed only"
    fallen = sum(r.diverged for r in cure), sum(r.diverged for r in patient)
    best, target = median(v.best for v in verdicts), median(v.patient_best for v in verdicts)
    losses = f"best loss {number(best)} against the patient's {number(target)}"
    if fallen[0]:
        also = f", the patient on {fallen[1]}" if fallen[1] else ""
        return f"Diverged on {fallen[0]} of {many} seed{'s' * (many > 1)}{also}; {losses}."
    if fallen[1]:
        return f"Trains where the patient diverged on {fallen[1]} of {many} seed{'s' * (many > 1)}; {losses}."
    if not _half([v.patient_trains for v in verdicts]):
        first = median(v.patient_first for v in verdicts)
        also = "" if _half([v.trains for v in verdicts]) else ", which is no fall either"
        return (
            f"The patient does not train: {number(target)} at its best, {number(first)} at first; "
            f"here the best loss is {number(best)}{also} ({seeds})."
        )
    steps, seconds = _middle([v.steps for v in verdicts]), _middle([v.seconds for v in verdicts])
    if steps is None:
        reached = sum(v.steps is not None for v in verdicts)
        when = f"on {reached} of {many} seeds only" if reached else "within the same steps on no seed"
        return f"Reached the patient's best loss {when} ({seeds}): {losses}."
    if state == "helped" and steps >= HELPED_BELOW:
        losses += ", clearly lower, which decided"
    low, high = _spread([v.steps for v in verdicts]) or (steps, steps)
    spread = f", {number(low)} to {ratio(high)}" if many > 1 else ""
    missed = sum(v.steps is None for v in verdicts)
    but = f", never on {missed}" if missed else ""
    time = f" and {ratio(seconds)} its seconds" if seconds is not None else ""
    return (
        f"Reached the patient's best loss in {ratio(steps)} the patient's steps{time} ({seeds}{spread}{but}); {losses}."
    )
