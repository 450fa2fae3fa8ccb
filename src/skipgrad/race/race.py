"""A patient and its cures under equal budgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from skipgrad.core.errors import BadInput, SkipgradError
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import LossPoint, Trial
from skipgrad.instrument.threads import Threads
from skipgrad.race.results import RaceResult
from skipgrad.race.smooth import score
from skipgrad.train.protocols import Prepare, Treatment, WorkloadLike
from skipgrad.train.results import TrialResult
from skipgrad.train.settle import settle
from skipgrad.train.trial import train_trial

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Started:
    """A trial's model is ready and its first step comes next."""

    trial: Trial


@dataclass(frozen=True)
class Stepped:
    """A trial took a step."""

    point: LossPoint


@dataclass(frozen=True)
class Finished:
    """A trial ended: done, diverged or interrupted, with all its losses."""

    result: TrialResult


@dataclass(frozen=True)
class Dropped:
    """A cure leaves the race."""

    remedy: str
    reason: str


@dataclass(frozen=True)
class Noted:
    """Something to mind when reading the result."""

    text: str


Event = Started | Stepped | Finished | Dropped | Noted
OnEvent = Callable[[Event], Any]


def race(
    workload: WorkloadLike,
    settings: Recipe,
    cures: dict[str, Prepare],
    *,
    rates: Sequence[float],
    seeds: Sequence[int],
    on_event: OnEvent | None = None,
    first_trial_id: int = 0,
    threads: Threads | None = None,
) -> RaceResult:
    """Runs the patient and each cure with the same steps, the same rates and the same seeds.

    First every rate is tried on the first seed. Then each contestant runs at its best rate on the other seeds; the best
    rate is the one with the lowest best smoothed loss, where a trial that diverged counts as infinite, and the lowest
    rate when all diverged. In each round the contestants take turns, so that a machine that slows down hits all alike.
    A short warm-up trial is thrown away first, as a process's first run is slower.

    Args:
        workload: model, data and loss.
        settings: the recipe; its ``lr`` and ``seed`` are replaced by those of the trials.
        cures: by name, what prepares the model.
        rates: the grid of learning rates.
        seeds: the seeds.
        on_event: called with `Started`, `Stepped`, `Finished`, `Dropped` and `Noted`, as they happen. After a
            KeyboardInterrupt the running trial is still reported as finished, ``"interrupted"``.
        first_trial_id: number of the first trial.
        threads: as in `train_trial`; their number is chosen on a trial that is thrown away.

    Returns:
        All trials; cures that refused or failed are in ``dropped`` with their reason.

    Raises:
        BadInput: there are no rates or no seeds, or one is named twice.
        SkipgradError: what the patient's own trials raise.
        KeyboardInterrupt: passed through.
    """
    for name, values in (("rates", rates), ("seeds", seeds)):
        if not values or len(set(values)) != len(values):
            raise BadInput(
                "starting a race", where=name, received=repr(list(values)), todo="give each once, at least one"
            )
    return _Race(workload, settings, dict(cures), on_event or _nothing, first_trial_id, threads).run(
        list(rates), list(seeds)
    )


class _Race:
    def __init__(
        self,
        workload: WorkloadLike,
        settings: Recipe,
        cures: dict[str, Prepare],
        tell: OnEvent,
        first: int,
        threads: Threads | None,
    ) -> None:
        self._threads = threads
        self._workload, self._settings, self._cures, self._tell = workload, settings, cures, tell
        self._next_id = first
        self._results: dict[str | None, list[TrialResult]] = {None: [], **{name: [] for name in cures}}
        self._dropped: dict[str, str] = {}

    def run(self, rates: list[float], seeds: list[int]) -> RaceResult:
        for value in rates:  # refuse a bad rate or seed before the first trial, not after an hour
            replace(self._settings, lr=value)
        for value in seeds:
            replace(self._settings, seed=value)
        short = replace(
            self._settings, steps=min(WARM_UP_STEPS, self._settings.steps), lr=rates[0], seed=seeds[0], warmup=0.0
        )
        # Settled before the race, so that all contestants run with one number of threads.
        settle(self._workload, replace(self._settings, lr=rates[0], seed=seeds[0]), self._threads)
        train_trial(self._workload, short, threads=self._threads)
        for rate in rates:
            self._round(dict.fromkeys(self._contestants(), rate), seeds[0])
        best = {name: _best_rate(self._results[name]) for name in self._contestants()}
        for seed in seeds[1:]:
            self._round({name: best[name] for name in self._contestants()}, seed)
        still = self._contestants()
        best = {name: rate for name, rate in best.items() if name in still}
        notes = tuple(_edges(best, rates))
        for text in notes:
            self._tell(Noted(text))
        return RaceResult(
            tuple(self._results[None]),
            {name: tuple(self._results[name]) for name in still if name is not None},
            dict(self._dropped),
            best,
            notes,
        )

    def _contestants(self) -> list[str | None]:
        return [name for name in self._results if name not in self._dropped]

    def _round(self, rates: dict[str | None, float], seed: int) -> None:
        for name, rate in rates.items():
            try:
                self._results[name].append(self._trial(name, replace(self._settings, lr=rate, seed=seed)))
            except SkipgradError as error:
                if name is None:
                    raise  # without the patient there is nothing to compare a cure with
                self._dropped[name] = _why(error)
                self._tell(Dropped(name, self._dropped[name]))

    def _trial(self, name: str | None, settings: Recipe) -> TrialResult:
        trial = settings.trial(self._next_id, name)
        points: list[LossPoint] = []
        started = False

        def prepare(model: nn.Module) -> Treatment | None:
            nonlocal started
            treatment = self._cures[name](model) if name is not None else None
            self._next_id += 1
            started = True
            self._tell(Started(trial))
            return treatment

        def on_step(point: LossPoint) -> None:
            points.append(point)
            self._tell(Stepped(point))

        try:
            result = train_trial(
                self._workload, settings, trial=trial, prepare=prepare, on_step=on_step, threads=self._threads
            )
        except (KeyboardInterrupt, SkipgradError):
            if started:
                self._tell(Finished(TrialResult(replace(trial, state="interrupted"), tuple(points))))
            raise
        self._tell(Finished(result))
        return result


def _nothing(event: Event) -> None:
    """Nobody listens."""


def _best_rate(results: list[TrialResult]) -> float:
    return min(results, key=lambda r: (score(r), r.trial.rate)).trial.rate


def _why(error: SkipgradError) -> str:
    """An error in one line."""
    return "; ".join(part for part in (error.doing, error.received, error.todo) if part)


def _edges(best: dict[str | None, float], rates: list[float]) -> list[str]:
    notes = []
    for name, rate in best.items():
        if len(rates) > 1 and math.isclose(rate, max(rates)):
            side, further = "highest", "higher"
        elif len(rates) > 1 and math.isclose(rate, min(rates)):
            side, further = "lowest", "lower"
        else:
            continue
        notes.append(
            f"The best rate of {name or 'the patient'}, {rate:g}, is the {side} of the grid: a {further} one "
            "may do better."
        )
    return notes
