"""Remedies raced against the patient, the best first."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.rank import ranked
from skipgrad.core.run import Cure
from skipgrad.instrument.threads import Threads
from skipgrad.race import prepare_with, race, verdicts
from skipgrad.race.race import OnEvent
from skipgrad.remedies import REMEDIES, remedy
from skipgrad.train import Settings, WorkloadLike

# Of the typed rate: BOOST's races found the best rate of a cure within a factor of 4 of the patient's.
RATE_FACTORS = (1 / 3, 1.0, 3.0)
SEEDS = (0, 1, 2)


def boost(
    workload: WorkloadLike,
    settings: Settings,
    names: Sequence[str] | None = None,
    *,
    rates: Sequence[float] | None = None,
    seeds: Sequence[int] = SEEDS,
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
        settings: the recipe; ``lr`` is the middle of the grid unless ``rates`` are given.
        names: of the remedies; all when None.
        rates: the grid of learning rates; a third, one and three times ``settings.lr`` when None.
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
    chosen = list(REMEDIES if names is None else names)
    if len(set(chosen)) != len(chosen):
        raise BadInput("choosing remedies to race", received=", ".join(chosen), todo="name each once")
    for name in chosen:
        remedy(name)  # an unknown name is told before the first trial
    cures = {n: prepare_with(n, workload, device=settings.device, graph=graph) for n in chosen}
    grid = [settings.lr * f for f in RATE_FACTORS] if rates is None else list(rates)
    result = race(
        workload,
        settings,
        cures,
        rates=grid,
        seeds=seeds,
        on_event=on_event,
        first_trial_id=first_trial_id,
        threads=threads,
    )
    return ranked(verdicts(result))
