"""What is asked of a race, and what it costs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import Recipe
from skipgrad.core.registry import nearest
from skipgrad.core.units import seconds

Ruleset = Literal["tuned", "self-tuning"]

TRIALS, SEEDS = 8, 5
LEAST_STEPS = 20  # of a trial under --budget: fewer show nothing
# What the self-tuning ruleset types in place of a search.
TYPED = (1.0, 0.1, 10.0)
DOING = "setting up a race"
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}


@dataclass(frozen=True)
class BoostOptions:
    """What to race, and how.

    Attributes:
        model: reference, e.g. ``"torchvision:resnet18"``.
        data: reference, e.g. ``"digits"``.
        model_args: arguments for the model's constructor.
        recipe: of every trial; its rate is the middle of the search, its seed the one that tunes.
        trials: how many each contestant tunes with, the first of them as typed.
        seeds: fresh ones, that took no part in the tuning, by which the contestants are judged.
        budget: seconds for the whole race; it sets the steps of a trial in place of the recipe.
        target: the loss to reach; by the tuned baseline when None.
        ruleset: ``"tuned"``: everybody tunes; ``"self-tuning"``: only the baseline does, as the reference, and the
            contestants train at the typed rate, a tenth and ten times it.
        tune_at_depth: the depth of a shallow sibling that is tuned in place of the model.
        holdout: share of the data held out, whose loss is raced; None for the data's own test part where they have
            one, else the training loss; 0 for the training loss.
        workers: how many trials run side by side.
        ray: address of a Ray cluster for them, ``"local"`` for one of this machine; processes when None.
        threads: ``"auto"``, a number, or None to leave torch's own.
        out: folder of the run file and of the finished trials; a new one under ``skipgrad-runs`` when None.
        remedies: the contestants; all that race by default when None.
        command: the command to repeat it with, for the run file.

    Raises:
        BadInput: a number out of range or an unknown ruleset.
    """

    model: str
    data: str
    model_args: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    trials: int = TRIALS
    seeds: int = SEEDS
    budget: float | None = None
    target: float | None = None
    ruleset: str = "tuned"
    tune_at_depth: int | None = None
    holdout: float | None = None
    workers: int = 1
    ray: str | None = None
    threads: str | int | None = None
    out: str | Path | None = None
    remedies: tuple[str, ...] | None = None
    command: str = ""

    def __post_init__(self) -> None:
        for name, value in (("trials", self.trials), ("seeds", self.seeds), ("workers", self.workers)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BadInput(DOING, where=name, received=repr(value), todo="give a whole number of at least 1")
        if self.holdout is not None and not 0 <= self.holdout < 1:
            raise BadInput(DOING, where="holdout", received=repr(self.holdout), todo="give a share such as 0.1")
        if self.ruleset not in get_args(Ruleset):
            raise BadInput(DOING, where="ruleset", received=self.ruleset, todo=nearest(self.ruleset, get_args(Ruleset)))

    @property
    def judging_seeds(self) -> list[int]:
        """The fresh seeds: those after the recipe's, which tunes."""
        return [self.recipe.seed + 1 + k for k in range(self.seeds)]

    def trials_in_all(self, contestants: int) -> int:
        """How many trials the race takes with so many contestants, the baseline among them."""
        if self.ruleset == "tuned":
            return contestants * (self.trials + self.seeds)
        # The reference tunes and is judged; the untuned baseline and the cures run at three typed rates.
        return self.trials + self.seeds + contestants * len(TYPED) * self.seeds


def steps_for(options: BoostOptions, contestants: int, seconds_a_step: float) -> int:
    """The steps of a trial that a budget allows.

    Raises:
        BadInput: not even `LEAST_STEPS` for each trial; it says how much that takes.
    """
    assert options.budget is not None
    many = options.trials_in_all(contestants)
    steps = int(options.budget / (many * seconds_a_step))
    if steps < LEAST_STEPS:
        least = many * LEAST_STEPS * seconds_a_step
        raise BadInput(
            DOING,
            where="budget",
            received=f"{seconds(options.budget)} for {many} trials of {contestants} contestants, which is {steps} "
            f"steps a trial at {seconds(seconds_a_step)} a step",
            todo=f"give at least {seconds(math.ceil(least))} ({LEAST_STEPS} steps a trial), or fewer --trials, --seeds "
            "or contestants (--try)",
        )
    return steps


def duration(text: str) -> float:
    """``"20m"``, ``"90s"`` or ``"1.5h"`` in seconds.

    Raises:
        BadInput: anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|m|min|h)\s*", text)
    if found is None or float(found[1]) == 0:
        raise BadInput("reading --budget", received=repr(text), todo="write a time with its unit: 90s, 20m or 1.5h")
    return float(found[1]) * _UNITS[found[2]]


def target_of(text: str) -> float | None:
    """``"auto"`` as None, a number as such.

    Raises:
        BadInput: anything else.
    """
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput("reading --target", received=repr(text), todo="write auto, or a loss such as 0.25")
    return value
