"""A race as a job: the model and the data by reference, a run file that keeps whatever was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skipgrad.boost.boost import boost, contestants
from skipgrad.core import Cure, Recipe, Run
from skipgrad.core.strict import finite
from skipgrad.instrument.threads import Threads
from skipgrad.models import fit
from skipgrad.race import SEEDS, Progress, RaceRecord, find_skips, rates_around, run_file, seeds_from, steps_of
from skipgrad.store import RUN, drop_empty, make_folder, read_run, set_aside
from skipgrad.train import device_of

SCHEMA = 1


@dataclass(frozen=True)
class BoostOptions:
    """What to race, and how.

    Attributes:
        model: reference, e.g. ``"torchvision:resnet18"``.
        data: reference, e.g. ``"digits"``.
        model_args: arguments for the model's constructor.
        recipe: of every trial; its rate is the middle of the grid, its seed the first.
        seeds: how many seeds are compared.
        threads: ``"auto"``, a number, or None to leave torch's own.
        out: folder of the run file; a new one under ``skipgrad-runs`` when None.
        remedies: these; all when None.
        command: the command to repeat it with, for the run file.
    """

    model: str
    data: str
    model_args: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    seeds: int = SEEDS
    threads: str | int | None = None
    out: str | Path | None = None
    remedies: tuple[str, ...] | None = None
    command: str = ""


@dataclass(frozen=True)
class BoostResult:
    """What a race said.

    Attributes:
        cures: one a remedy, the best first.
        run: everything, as read back from the run file.
        run_path: the run file.
    """

    cures: tuple[Cure, ...]
    run: Run
    run_path: Path

    def to_dict(self) -> dict[str, Any]:
        """The object ``skipgrad boost --json`` prints; infinite and undefined numbers are null in it."""
        told = {key: self.run.meta.get(key) for key in ("model", "data", "fit")}
        cures = [asdict(c) for c in self.cures]
        return finite({"schema": SCHEMA, **told, "run": str(self.run_path), "cures": cures})


def boost_job(options: BoostOptions, progress: Progress | None = None) -> BoostResult:
    """Races remedies for a model on data and writes what happens into a run file as it happens.

    Args:
        options: what to race.
        progress: called with (stage, done, total, note) as it goes.

    Raises:
        SkipgradError: a mistake of the user's; what had been measured by then is kept in the run file.
        KeyboardInterrupt: passed on, with a note that says where what was measured is kept.
    """
    tell: Progress = progress or (lambda *_: None)
    names = contestants(options.remedies)
    device_of(options.recipe.device)
    threads = Threads(options.threads)
    folder = make_folder(options.out, options.model, options.data)
    tell("fitting model and data", 0, 0, f"{options.model} on {options.data}")
    try:
        workload = fit(options.model, options.model_args, options.data, batch_size=options.recipe.batch_size)
    except BaseException:
        drop_empty(folder)
        raise
    set_aside(folder)
    recipe = options.recipe.for_task(workload.task)
    meta = {
        "model": options.model,
        "data": options.data,
        "fit": list(workload.fit),
        "command": options.command,
        **recipe.meta(),
    }
    path = folder / RUN
    rates, seeds = rates_around(recipe.rate), seeds_from(recipe.seed, options.seeds)
    with run_file(path, meta) as file, threads:
        tell("finding skips", 0, 0, "")
        graph = find_skips(workload.build().to(recipe.device), workload, device=recipe.device)
        file.graph(graph).commit()
        steps = steps_of(1 + len(names), len(rates), len(seeds), recipe.steps)
        record = RaceRecord(file, tell, "racing " + ", ".join(names), steps)
        cures = boost(workload, recipe, names, rates=rates, seeds=seeds, graph=graph, on_event=record, threads=threads)
        file.cures(cures).meta(threads=threads.meta())
    return BoostResult(tuple(cures), read_run(path), path)
