"""Remedies raced against the patient, the best first."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.rank import ranked
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import Cure
from skipgrad.instrument.threads import Threads
from skipgrad.race import prepare_with, race, rates_around, seeds_from, verdicts
from skipgrad.race.race import OnEvent
from skipgrad.remedies import REMEDIES, remedy
from skipgrad.train import WorkloadLike


def boost(
    workload: WorkloadLike,
    recipe: Recipe,
    names: Sequence[str] | None = None,
    *,
    rates: Sequence[float] | None = None,
    seeds: Sequence[int] | None = None,
    graph: SkipGraph | None = None,
    on_event: OnEvent | None = None,
    first_trial_id: int = 0,
    threads: Threads | None = None,
) -> list[Cure]:
    """Tries remedies under equal budgets and ranks them by what they did.

    Every contestant, the untreated model included, gets the same rates on the first seed and its own best rate on the
    other seeds, so no cure wins by a rate that the patient was not offered.

    Args:
        workload: model, data and loss.
        recipe: of every trial; its rate is the middle of the grid unless ``rates`` are given, its seed the first of
            three unless ``seeds`` are.
        names: of the remedies; all when None.
        rates: the grid of learning rates; a third, one and three times the recipe's when None.
        seeds: the first one chooses the rates.
        graph: the skips, if they are known already.
        on_event: as in `skipgrad.race.race`; what to mind when reading the result comes as `Noted`.
        first_trial_id: number of the first trial.
        threads: chooses torch's threads by the steps, inside its ``with``; the caller's number is left alone when None.

    Returns:
        One record a remedy, the best first, each with the lines that apply it; ``"refused"`` ones last.

    Raises:
        UnknownName: a remedy that there is not.
        BadInput: a remedy named twice, no rates or no seeds.
    """
    chosen = contestants(names)
    recipe = recipe.for_task(getattr(workload, "task", ""))
    cures = {n: prepare_with(n, workload, device=recipe.device, graph=graph) for n in chosen}
    result = race(
        workload,
        recipe,
        cures,
        rates=rates_around(recipe.rate) if rates is None else list(rates),
        seeds=seeds_from(recipe.seed) if seeds is None else seeds,
        on_event=on_event,
        first_trial_id=first_trial_id,
        threads=threads,
    )
    return ranked(verdicts(result))


def contestants(names: Sequence[str] | None) -> list[str]:
    """The remedies that are raced; all when none are named.

    Raises:
        UnknownName: a remedy that there is not.
        BadInput: a remedy named twice.
    """
    chosen = [n for n in REMEDIES if REMEDIES.get(n).by_default] if names is None else list(names)
    if len(set(chosen)) != len(chosen):
        raise BadInput("choosing remedies to race", received=", ".join(chosen), todo="name each once")
    for name in chosen:
        remedy(name)  # an unknown name is told before the first trial
    return chosen
