"""Trials on workers: each builds model and data from their references, so that neither needs to be pickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from skipgrad.boost.contest import Apart
from skipgrad.boost.entry import Entry
from skipgrad.boost.place import Place, ground_of, workloads
from skipgrad.boost.trial import Ground, Job, run_trial
from skipgrad.instrument.hardware import hardware
from skipgrad.instrument.threads import Threads
from skipgrad.race.spread import Spread


@dataclass(frozen=True)
class Task:
    """What a worker is told: where it trains, and what."""

    place: Place
    job: Job
    threads: int


def apart(spread: Spread, place: Place, threads: int) -> Apart:
    """The function that runs jobs on a spread.

    Runs that judge a seed go to one machine, where there are several: times are compared within it alone.
    """

    def run(jobs: Sequence[Job]) -> Iterator[Entry]:
        tasks = {job.number: Task(place, job, threads) for job in jobs}

        def group(number: int) -> tuple[str, int]:
            plan = tasks[number].job.plan
            return plan.phase, plan.seed if plan.phase == "judge" else number

        for _, entry in spread.run(work, tasks, group=group):
            yield entry

    return run


def work(task: Task) -> Entry:
    """Runs one trial, on the worker."""
    ground = _ground(_Same(task.place), task.job.shallow)
    device = task.job.recipe.device
    with Threads(task.threads) as threads:
        return run_trial(task.job, ground, _nobody, threads, hardware(device))


class _Same:
    """A place as a key: equal when all that it holds is."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __hash__(self) -> int:
        return hash((self.place.model, self.place.data))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.place == other.place


@lru_cache(maxsize=2)
def _ground(same: _Same, shallow: bool) -> Ground:
    place = same.place
    return ground_of(*workloads(place)[int(shallow)], place.device)


def _nobody(event: object) -> None:
    """The parent tells of a trial when it has it."""
