"""One finished trial of a race, as it is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from skipgrad.core.recipe import Recipe
from skipgrad.core.run import LossPoint
from skipgrad.race import score
from skipgrad.train import TrialResult

BASELINE = "baseline"
UNTUNED = "baseline, untuned"
# What a trial without a finite loss counts as in a search: Optuna wants a number, and orders by it alone.
WORST = 1e30


@dataclass(frozen=True)
class Plan:
    """A trial to come.

    Attributes:
        who: the contestant.
        phase: ``"tune"`` or ``"judge"``.
        key: what tells it from the others of its contestant and phase: a number, or a seed and the typed rate.
        seed: of the trial.
        params: what was chosen: ``lr``, ``warmup``, ``clip`` and ``knob.…``.
    """

    who: str
    phase: str
    key: str
    seed: int
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A finished trial: its plan and what came of it.

    Attributes:
        plan: what was asked.
        result: its losses; empty when it refused.
        refused: why it did not run, or not to its end.
    """

    plan: Plan
    result: TrialResult
    refused: str = ""

    @property
    def seconds(self) -> float:
        """What it took: of training, with everything that a cure measures."""
        return self.result.losses[-1].seconds if self.result.losses else 0.0

    @property
    def score(self) -> float:
        """What tuning minimises: the best smoothed loss, `WORST` where there is none."""
        value = math.inf if self.refused else score(self.result)
        return value if math.isfinite(value) else WORST

    def attrs(self) -> dict[str, Any]:
        """As plain data, without its parameters."""
        trial = self.result.trial
        return {
            "key": self.plan.key,
            "seed": self.plan.seed,
            "params": self.plan.params,
            "state": trial.state,
            "steps": trial.steps,
            "losses": [p.loss if math.isfinite(p.loss) else None for p in self.result.losses],
            "seconds": [p.seconds for p in self.result.losses],
            "lines": self.result.lines,
            "refused": self.refused,
        }

    @classmethod
    def of(cls, who: str, phase: str, attrs: dict[str, Any], number: int) -> Entry:
        """The entry that `attrs` wrote, as trial ``number`` of the run file."""
        plan = Plan(who, phase, attrs["key"], attrs["seed"], attrs["params"])
        recipe = Recipe(steps=attrs["steps"], seed=plan.seed, lr=plan.params["lr"])
        trial = replace(recipe.trial(number, remedy_of(who)), state=attrs["state"])
        points = tuple(
            LossPoint(number, i, math.nan if loss is None else loss, at)
            for i, (loss, at) in enumerate(zip(attrs["losses"], attrs["seconds"], strict=True))
        )
        return cls(plan, TrialResult(trial, points, attrs["lines"]), attrs["refused"])


def remedy_of(who: str) -> str | None:
    """The remedy of a contestant; None for the baselines."""
    return None if who in (BASELINE, UNTUNED) else who
