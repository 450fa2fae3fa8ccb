"""One finished trial of a race, as it is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from skipgrad.boost.held import points
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import LossPoint
from skipgrad.race import score
from skipgrad.train import TrialResult

BASELINE = "baseline"
UNTUNED = "baseline, untuned"
TYPED_KEY = "typed rate"
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

    @property
    def typed(self) -> bool:
        """Whether it judges a recipe as it was typed, or at a tenth or ten times its rate."""
        return TYPED_KEY in self.key


@dataclass(frozen=True)
class Entry:
    """A finished trial: its plan and what came of it.

    Attributes:
        plan: what was asked.
        result: its losses; empty when it refused.
        refused: why it did not run, or not to its end.
        machine: what it ran on; times are compared where it is the same.
        held: validation losses, at the steps they were taken after; None where nothing is held out.
    """

    plan: Plan
    result: TrialResult
    refused: str = ""
    machine: str = ""
    held: tuple[LossPoint, ...] | None = None

    @property
    def raced(self) -> TrialResult:
        """The curve that is raced: the validation losses where there are any, else the training losses.

        Its trial has as many steps as the whole curve has points.
        """
        if self.held is None:
            return self.result
        trial = self.result.trial
        state = trial.state if all(math.isfinite(p.loss) for p in self.held) else "diverged"
        return replace(self.result, trial=replace(trial, steps=points(trial.steps), state=state), losses=self.held)

    @property
    def seconds(self) -> float:
        """What it took: of training, with everything that a cure measures."""
        return self.result.losses[-1].seconds if self.result.losses else 0.0

    @property
    def score(self) -> float:
        """What tuning minimises: the best smoothed loss, `WORST` where there is none."""
        value = math.inf if self.refused else score(self.raced)
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
            "machine": self.machine,
            "whole_from": self.result.whole_from,
            "held": None if self.held is None else [_row(p) for p in self.held],
        }

    @classmethod
    def of(cls, who: str, phase: str, attrs: dict[str, Any], number: int) -> Entry:
        """The entry that `attrs` wrote, as trial ``number`` of the run file."""
        plan = Plan(who, phase, attrs["key"], attrs["seed"], attrs["params"])
        recipe = Recipe(steps=attrs["steps"], seed=plan.seed, lr=plan.params["lr"])
        trial = replace(recipe.trial(number, remedy_of(who)), state=attrs["state"])
        losses = tuple(
            LossPoint(number, i, math.nan if loss is None else loss, at)
            for i, (loss, at) in enumerate(zip(attrs["losses"], attrs["seconds"], strict=True))
        )
        held = attrs.get("held")
        if held is not None:
            held = tuple(LossPoint(number, i, math.nan if loss is None else loss, at) for i, loss, at in held)
        result = TrialResult(trial, losses, attrs["lines"], attrs.get("whole_from", 0))
        return cls(plan, result, attrs["refused"], attrs.get("machine", ""), held)


def _row(point: LossPoint) -> tuple[int, float | None, float]:
    return point.step, point.loss if math.isfinite(point.loss) else None, point.seconds


def remedy_of(who: str) -> str | None:
    """The remedy of a contestant; None for the baselines."""
    return None if who in (BASELINE, UNTUNED) else who
