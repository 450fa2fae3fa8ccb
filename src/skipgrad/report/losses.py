"""The loss of the patient and of its cures, each at its best rate."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from skipgrad.core import LossPoint, Run, Trial
from skipgrad.core.rank import winner
from skipgrad.report.text import clean

MOST_POINTS = 120
MOST_CURES = 4


@dataclass(frozen=True)
class LossCurves:
    """Loss over steps and seconds.

    Attributes:
        points: records of who, trial, step, seconds, loss; each the mean of ``per_point`` steps.
        who: the nets, patient first, the winner next.
        best: the patient's best smoothed loss, where the cures aim; None when unknown, or where it does not train.
        per_point: steps that one point is the mean of, at most.
        broken: how many losses were not finite and are left out.
        left_out: remedies that were tried and are not drawn.
    """

    points: tuple[dict[str, Any], ...]
    who: tuple[str, ...]
    best: float | None
    per_point: int
    broken: int
    left_out: tuple[str, ...]


def loss_curves(run: Run) -> LossCurves:
    """The curves; without cures those of all trials of the patient."""
    by_trial: dict[int, list[LossPoint]] = defaultdict(list)
    for p in run.losses:
        by_trial[p.trial].append(p)
    best = winner(run.cures)
    tried = [c for c in run.cures if c.rate is not None]
    tried.sort(key=lambda c: (c is not best, c.state != "helped"))
    patient_rate = next((c.patient_rate for c in tried if c.patient_rate is not None), None)
    trials = [(t, "patient") for t in _at(run, None, patient_rate) if by_trial.get(t.id)]
    for cure in tried[:MOST_CURES]:
        trials += [(t, clean(cure.remedy)) for t in _at(run, cure.remedy, cure.rate) if by_trial.get(t.id)]
    if not trials:  # a run cut short, or one whose trials were never written
        trials = [(t, clean(t.remedy or "patient")) for t in run.trials if by_trial.get(t.id)]
    points: list[dict[str, Any]] = []
    per_point = 1
    broken = 0
    for trial, who in trials:
        own = by_trial[trial.id]
        good = [p for p in own if math.isfinite(p.loss)]
        broken += len(own) - len(good)
        k = max(1, math.ceil(len(good) / MOST_POINTS))
        per_point = max(per_point, k)
        for i in range(0, len(good), k):
            part = good[i : i + k]
            points.append(
                {
                    "who": who,
                    "trial": trial.id,
                    "step": part[-1].step,
                    "seconds": round(part[-1].seconds, 4) if math.isfinite(part[-1].seconds) else None,
                    "loss": fmean(p.loss for p in part),
                }
            )
    aim = best or (tried[0] if tried else None)
    drawn = tuple(dict.fromkeys(who for _, who in trials))
    return LossCurves(
        tuple(points),
        drawn,
        aim.patient_best_loss if aim and aim.patient_trains else None,
        per_point,
        broken,
        tuple(clean(c.remedy) for c in tried[MOST_CURES:]),
    )


def _at(run: Run, remedy: str | None, rate: float | None) -> list[Trial]:
    """The trials of a remedy at a rate, those of the race before the measured one, which is slower."""
    own = [t for t in run.trials if t.remedy == remedy and (rate is None or math.isclose(t.rate, rate))]
    return [t for t in own if not t.measured] or own
