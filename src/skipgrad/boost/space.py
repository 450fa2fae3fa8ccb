"""What is tuned: rate, warm-up, clipping and the cure's own knobs – the same for everybody but for the knobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from skipgrad.core.recipe import Recipe
from skipgrad.remedies import remedy
from skipgrad.remedies.knobs import Knob, Span

# Rates a tenth to ten times the typed one: in the races behind docs/design/boost.md the best lay within it.
SMALLEST, LARGEST = 0.1, 10.0
LONGEST_WARMUP = 0.3
CLIPS = (None, 1.0)
KNOB = "knob."


def distributions(
    recipe: Recipe, knobs: Mapping[str, Knob], rates: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The space as Optuna's distributions, around a recipe whose rate is settled."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    low, high = rates or (SMALLEST * recipe.rate, LARGEST * recipe.rate)
    space: dict[str, Any] = {
        "lr": FloatDistribution(low, high, log=True),
        "warmup": FloatDistribution(0.0, max(LONGEST_WARMUP, recipe.warmup)),
        "clip": CategoricalDistribution(tuple(dict.fromkeys((*CLIPS, recipe.clip)))),
    }
    for name, knob in knobs.items():
        if isinstance(knob, Span):
            space[KNOB + name] = FloatDistribution(knob.low, knob.high, log=knob.log)
        else:
            space[KNOB + name] = CategoricalDistribution(knob.values)
    return space


def as_typed(recipe: Recipe) -> dict[str, Any]:
    """The parameters of the recipe as it was typed; knobs are the remedy's own defaults."""
    return {"lr": recipe.rate, "warmup": float(recipe.warmup), "clip": recipe.clip}


def recipe_of(params: Mapping[str, Any], recipe: Recipe, seed: int) -> Recipe:
    """The recipe of a trial with these parameters."""
    return replace(recipe, lr=params["lr"], warmup=params["warmup"], clip=params["clip"], seed=seed)


def options_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The remedy's own options among the parameters."""
    return {name.removeprefix(KNOB): value for name, value in params.items() if name.startswith(KNOB)}


def knobs_of(name: str | None) -> Mapping[str, Knob]:
    """The knobs of a contestant; the baseline has none."""
    return remedy(name).knobs if name is not None else {}
