"""Tuned shallow, trained deep: the contestant that tunes on a shallow sibling and carries the recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skipgrad.boost.carries import drift
from skipgrad.boost.carries import told as tell_q
from skipgrad.boost.contest import Contest
from skipgrad.boost.entry import BASELINE
from skipgrad.boost.options import BoostOptions
from skipgrad.boost.sibling import sibling
from skipgrad.boost.space import LARGEST, SMALLEST, recipe_of
from skipgrad.boost.trial import Ground
from skipgrad.core.recipe import Recipe
from skipgrad.core.units import number
from skipgrad.models import resolve_model
from skipgrad.race import best_smoothed, trains
from skipgrad.remedies.depth_transfer import branches_of

NAME = "depth-transfer"
SEEDS = 3  # that a setting is tried on: one seed's optimum of a shallow net is flat (docs/design/boost.md)
_APART = 7919  # between the seeds of a setting, so that none is one that judges


def shallow(options: BoostOptions) -> tuple[str, dict[str, Any]]:
    """Reference and arguments of the shallow sibling.

    Raises:
        BadInput: the model has no argument for its depth, or is no deeper.
    """
    assert options.tune_at_depth is not None
    source = resolve_model(options.model, dict(options.model_args))
    ref, args, _ = sibling(source, options.model_args, options.tune_at_depth)
    return ref, args


def look(recipe: Recipe, small: Ground) -> Ground:
    """What the contestant tunes on. The deep net's remedy is told how many branches the shallow one has."""
    seeds = tuple(recipe.seed + _APART * k for k in range(SEEDS))
    rates = (SMALLEST * recipe.rate, LARGEST * recipe.rate)
    return replace(small, options={"tuned_at": max(1, len(branches_of(small.graph)))}, seeds=seeds, rates=rates)


def carry(contest: Contest) -> None:
    """After tuning: drops the contestant where its optimum is none, and notes the shallow net's own loss."""
    if NAME in contest.dropped or NAME not in contest.tuners:
        return  # without a search it runs at the typed rates, as everybody
    tuned = contest.tuned(NAME)
    best = contest.best(NAME)
    own = [e for e in tuned if e.plan.params == best]
    loss = min(best_smoothed(e.raced)[1] for e in own)
    deep = min(best_smoothed(e.raced)[1] for e in contest.tuned(BASELINE))
    side = contest.edge(NAME)
    if side and contest.options.trials > 1:
        contest.drop(
            NAME,
            f"the shallow net's best rate, {number(best['lr'])}, lies at the {side} end of the search, so that it is "
            "no optimum to carry; type another --lr",
        )
    elif 2 * sum(trains(e.raced) for e in own) < len(own):
        contest.drop(NAME, f"the shallow net does not train ({number(loss)} at its best): it has no rate to carry")
    text = (
        f"The shallow net (depth {contest.options.tune_at_depth}) reaches a loss of {number(loss)} itself, the tuned "
        f"deep baseline {number(deep)} in as many steps."
    )
    if loss <= deep:
        text += " Depth may not be needed at all."
    contest.note(text)
    if NAME not in contest.dropped:
        small = contest.look_at(NAME)
        recipe = recipe_of(best, contest.recipe, contest.recipe.seed)
        options = small.options or {}
        contest.q = contest.kept.once(
            f"q at {best}", lambda: drift(NAME, contest.ground, small, recipe, small.seeds, options)
        )
        told = "q = D_deep / D_shallow could not be measured." if contest.q is None else tell_q(contest.q)
        contest.note(told)
