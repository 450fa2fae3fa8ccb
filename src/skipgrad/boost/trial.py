"""One trial of a race: it ends as an `Entry`, whether it ran to its end or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from skipgrad.boost.entry import Entry, Plan, remedy_of
from skipgrad.boost.held import watcher
from skipgrad.boost.space import options_of, recipe_of
from skipgrad.core.errors import SkipgradError
from skipgrad.core.graph import SkipGraph
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import LossPoint
from skipgrad.instrument.threads import Threads
from skipgrad.models import Workload
from skipgrad.race import Finished, Started, Stepped, prepare_with
from skipgrad.race.race import OnEvent
from skipgrad.train import Treatment, TrialResult, train_trial


@dataclass(frozen=True)
class Ground:
    """What a contestant trains on.

    Attributes:
        workload: model, data and loss.
        graph: the model's skips.
        held: what the validation loss is of; None where the training loss is raced.
        options: the remedy's own settings, set by us.
        seeds: that a setting is tried on when it is tuned, in place of the recipe's one.
        rates: the lowest and highest rate of the search.
    """

    workload: Workload
    graph: SkipGraph
    held: Workload | None = None
    options: dict[str, Any] | None = None
    seeds: tuple[int, ...] = ()
    rates: tuple[float, float] | None = None


@dataclass(frozen=True)
class Job:
    """A trial to come: all that is needed to run it, but model and data.

    Attributes:
        number: of the trial in the run file.
        plan: who trains, and how.
        recipe: as typed, its rate settled.
        shallow: whether it trains on the shallow sibling.
        options: the remedy's own settings, set by us; those that are tuned come on top.
    """

    number: int
    plan: Plan
    recipe: Recipe
    shallow: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def run_trial(job: Job, ground: Ground, tell: OnEvent, threads: Threads | None = None, machine: str = "") -> Entry:
    """Trains.

    Args:
        job: the trial.
        ground: its model and data.
        tell: called with the events of a race.
        threads: as in `train_trial`.
        machine: where it runs, for the entry.

    Raises:
        SkipgradError: what the baseline raises; a remedy's becomes an entry that says why it was refused.
        KeyboardInterrupt: passed through.
    """
    plan = job.plan
    recipe = recipe_of(plan.params, job.recipe, plan.seed)
    name = remedy_of(plan.who)
    trial = recipe.trial(job.number, name)
    points: list[LossPoint] = []
    held: list[LossPoint] = []
    look = None if ground.held is None else watcher(ground.held, recipe)
    started: nn.Module | None = None

    def entry(result: TrialResult, refused: str = "") -> Entry:
        return Entry(plan, result, refused, machine, None if look is None else tuple(held))

    def prepare(model: nn.Module) -> Treatment | None:
        nonlocal started
        treatment = None
        if name is not None:
            settings = {**job.options, **options_of(plan.params)}
            applies = prepare_with(
                name, ground.workload, device=recipe.device, graph=ground.graph, options=settings
            )  # fmt: skip
            treatment = applies(model)
        started = model
        tell(Started(trial))
        return treatment

    def on_step(point: LossPoint) -> None:
        points.append(point)
        tell(Stepped(point))
        if look is not None and started is not None and (seen := look(started, point)) is not None:
            held.append(seen)

    try:
        result = train_trial(
            ground.workload, recipe, trial=trial, prepare=prepare, on_step=on_step, threads=threads
        )  # fmt: skip
    except SkipgradError as error:
        if name is None:
            raise  # without the baseline there is nothing to compare with
        why = "; ".join(part for part in (error.doing, error.received, error.todo) if part)
        result = TrialResult(replace(trial, state="interrupted"), tuple(points))
        if started is not None:
            tell(Finished(result))
        return entry(result, why)
    except KeyboardInterrupt:
        if started is not None:
            tell(Finished(TrialResult(replace(trial, state="interrupted"), tuple(points))))
        raise
    tell(Finished(result))
    return entry(result)


def tell_of(entry: Entry, tell: OnEvent) -> None:
    """The events of a trial that ran elsewhere, when it is finished."""
    if entry.result.losses or not entry.refused:
        tell(Started(replace(entry.result.trial, state="running")))
        for point in entry.result.losses:
            tell(Stepped(point))
        tell(Finished(entry.result))
