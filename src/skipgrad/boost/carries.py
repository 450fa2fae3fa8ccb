"""q = D_deep / D_shallow at one rate: whether a rate tuned on the shallow net carries to the deep one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import nn

from skipgrad.boost.trial import Ground
from skipgrad.core.changes import ChangeRow
from skipgrad.core.errors import SkipgradError
from skipgrad.core.recipe import Recipe
from skipgrad.core.units import number
from skipgrad.race import prepare_with
from skipgrad.remedies import changes
from skipgrad.train import train_trial

STEPS = 20
WARM = 0.5  # of them the rate rises
EVERY = 2  # of the others are looked at
# Chosen after the fact in the rough races of docs/design/boost.md, in which rates that carried lay within.
CARRIES = (0.65, 1.2)


def drift(
    name: str, deep: Ground, small: Ground, recipe: Recipe, seeds: Sequence[int], options: Mapping[str, Any]
) -> float | None:
    """q, the median over the seeds; None where D could not be measured in one of the nets.

    Args:
        name: the remedy that both are trained with.
        deep: the deep net.
        small: the shallow one.
        recipe: with the rate that is carried.
        seeds: of the two trainings of some steps.
        options: of the remedy, the same for both.
    """
    found: list[float] = []
    for seed in seeds:
        own = replace(recipe, seed=seed, steps=STEPS, warmup=WARM, schedule="constant")
        ours, theirs = (_change(name, ground, own, options) for ground in (deep, small))
        if ours is None or not theirs:
            return None
        found.append(ours / theirs)
    return median(found)


def told(q: float) -> str:
    """What q says, as a sentence."""
    low, high = CARRIES
    figures = f"q = D_deep / D_shallow over {STEPS} steps at the carried rate is {number(q)}"
    if q > high:
        return f"{figures}, above {high:g}: a step changes the deep net more, so that the rate may be too high for it."
    if q < low:
        return f"{figures}, below {low:g}: a step changes the deep net less, so that a higher rate may be better."
    return f"{figures}, within {low:g} to {high:g}: the rate carries."


def _change(name: str, ground: Ground, recipe: Recipe, options: Mapping[str, Any]) -> float | None:
    """The median D of the steps after the warm-up; None where it cannot be measured."""
    rows: list[ChangeRow] = []

    @contextmanager
    def observe(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        with changes(model, ground.graph, optimizer, every=EVERY, told=rows.append):
            yield

    try:
        prepare = prepare_with(
            name, ground.workload, device=recipe.device, graph=ground.graph, options=options
        )  # fmt: skip
        train_trial(ground.workload, recipe, prepare=prepare, observe=observe)
    except SkipgradError:
        return None
    near = [r.change for r in rows if r.step >= WARM * STEPS]
    return median(near) if near else None
