"""An honest race as a job: the model and the data by reference, and nothing that was finished is lost."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from skipgrad.boost.boost import contestants
from skipgrad.boost.contest import Contest, Ground
from skipgrad.boost.entry import BASELINE
from skipgrad.boost.judge import Contestant, best_loss, contestant
from skipgrad.boost.kept import Kept, need_optuna, steps_kept
from skipgrad.boost.options import BoostOptions, steps_for
from skipgrad.boost.outcome import BoostResult, sentence_of
from skipgrad.boost.space import recipe_of
from skipgrad.boost.target import Target, choose
from skipgrad.boost.transfer import NAME as TRANSFER
from skipgrad.boost.transfer import SEEDS, carry, look, shallow
from skipgrad.core import Cure, Recipe
from skipgrad.core.files import write_text
from skipgrad.core.graph import SkipGraph
from skipgrad.core.rank import ranked, winner
from skipgrad.instrument.threads import Threads
from skipgrad.models import Workload, fit
from skipgrad.race import Progress, RaceRecord, constant_loss, find_skips, run_file, trains, versions
from skipgrad.store import RUN, RunWriter, drop_empty, make_folder, read_run, set_aside
from skipgrad.train import device_of, settle, train_trial

RECIPE = "recipe.toml"
_TIMED = 8  # steps by which a budget is turned into steps


def boost_job(options: BoostOptions, progress: Progress | None = None) -> BoostResult:
    """Races remedies against the tuned baseline and says what trains this model fastest.

    Everybody tunes with the same number of trials (`BoostOptions.trials`), then trains on the same fresh seeds, in
    turns. Finished trials are kept in the folder: the same call again repeats none, whatever ended the one before.

    Args:
        options: what to race.
        progress: called with (stage, done, total, note) as it goes.

    Raises:
        MissingExtra: Optuna is not installed.
        SkipgradError: a mistake of the user's; finished trials are kept.
        KeyboardInterrupt: passed on, with a note that says what there is so far.
    """
    tell: Progress = progress or (lambda *_: None)
    need_optuna()
    names = contestants(options.remedies)
    if options.tune_at_depth is not None and TRANSFER not in names:
        names.append(TRANSFER)
    device_of(options.recipe.device)
    folder = make_folder(options.out, options.model, options.data)
    tell("fitting model and data", 0, 0, f"{options.model} on {options.data}")
    try:
        workload = fit(options.model, options.model_args, options.data, batch_size=options.recipe.batch_size)
        small = shallow(options, workload) if options.tune_at_depth is not None else None
    except BaseException:
        drop_empty(folder)
        raise
    threads = Threads(options.threads)
    recipe = options.recipe.for_task(workload.task)
    with threads:
        many = 1 + len(names)
        settle(workload, recipe, threads)
        recipe = replace(recipe, steps=_steps(options, recipe, workload, folder, many, threads))
        with closing(Kept(folder, _identity(options, recipe))) as kept:
            set_aside(folder)
            return _race(options, recipe, names, workload, small, kept, threads, folder, tell)


def _steps(options: BoostOptions, recipe: Recipe, workload: Workload, folder: Path, many: int, threads: Threads) -> int:
    """The steps of a trial: those of the recipe, or what the budget allows; of a race that goes on, those it has."""
    if options.budget is None:
        return recipe.steps
    known = steps_kept(folder)
    if known is not None:
        return known
    short = replace(recipe, steps=_TIMED, warmup=0.0)
    at = [p.seconds for p in train_trial(workload, short, threads=threads).losses]
    each = median(b - a for a, b in pairwise(at))
    return steps_for(options, many, each)


def _identity(options: BoostOptions, recipe: Recipe) -> dict[str, Any]:
    own = versions()
    told = {
        "model": options.model,
        "data": options.data,
        "model_args": options.model_args,
        "recipe": recipe.meta(),
        "tune_at_depth": options.tune_at_depth,
        "skipgrad": own["skipgrad"],
        "torch": own["torch"],
    }
    return json.loads(json.dumps(told, default=str))


def _race(
    options: BoostOptions,
    recipe: Recipe,
    names: list[str],
    workload: Workload,
    small: Workload | None,
    kept: Kept,
    threads: Threads,
    folder: Path,
    tell: Progress,
) -> BoostResult:
    path = folder / RUN
    meta = {
        "model": options.model,
        "data": options.data,
        "fit": list(workload.fit),
        "command": options.command,
        **recipe.meta(),
    }
    with run_file(path, meta) as file:
        tell("finding skips", 0, 0, "")
        ground = Ground(workload, _skips(workload, recipe))
        file.graph(ground.graph)
        _write_kept(file, kept)
        file.commit()
        more = options.trials * (SEEDS - 1) if small is not None else 0
        steps = (options.trials_in_all(1 + len(names)) + more - len(kept)) * recipe.steps
        record = RaceRecord(file, tell, "racing " + ", ".join(names), max(steps, 0))
        elsewhere = {TRANSFER: look(options, recipe, small, _skips(small, recipe), ground)} if small else {}
        contest = Contest(options, recipe, names, ground, kept, record, threads, elsewhere)
        _warm(workload, recipe, threads)
        try:
            contest.run(after_tuning=None if small is None else carry)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(_so_far(contest))
            raise
        chance = constant_loss(workload, ground.graph, device=recipe.device)
        target = choose(contest.judged(BASELINE), contest.tuned(BASELINE), options.target, chance)
        told = _judge(contest, names, target)
        file.cures(told.cures)
        file.meta(threads=threads.meta(), chance=chance, target=target.loss)
    chosen = told.baseline if told.winner is None else next(c for c in told.others if c.name == told.winner)
    result = BoostResult(
        target,
        told.baseline,
        tuple(told.others),
        sentence_of(target, told.baseline, told.others, told.winner),
        told.winner,
        recipe_of(chosen.settings, recipe, recipe.seed),
        tuple(contest.notes),
        read_run(path),
        path,
    )
    write_text(folder / RECIPE, result.toml, doing="writing the winner's recipe")
    return result


def _skips(workload: Workload, recipe: Recipe) -> SkipGraph:
    return find_skips(workload.build().to(recipe.device), workload, device=recipe.device)


def _warm(workload: Workload, recipe: Recipe, threads: Threads) -> None:
    """A short trial that is thrown away: a process's first run is slower."""
    train_trial(workload, replace(recipe, steps=min(3, recipe.steps), warmup=0.0), threads=threads)


def _write_kept(file: RunWriter, kept: Kept) -> None:
    """Finished trials of an earlier call, into the run file of this one."""
    for entry in kept.entries():
        if entry.result.losses:
            file.trial(entry.result.trial)
            file.losses(entry.result.losses)


@dataclass(frozen=True)
class _Told:
    baseline: Contestant
    others: list[Contestant]
    cures: list[Cure]
    winner: str | None


def _judge(contest: Contest, names: list[str], target: Target) -> _Told:
    """Everybody's figures, in the order of `skipgrad.core.rank`: the one place that says who comes first."""
    theirs = contest.judged(BASELINE)
    baseline = contestant(BASELINE, contest.tuned(BASELINE), theirs, theirs, target, contest.best(BASELINE))
    trained = 2 * sum(trains(e.result) for e in theirs) >= len(theirs)
    told: dict[str, Contestant] = {}
    cures: list[Cure] = []
    for name in contest.contestants[1:]:
        if name in contest.dropped:
            told[name] = Contestant(name, "refused", contest.dropped[name])
            cures.append(Cure(name, "refused", contest.dropped[name]))
            continue
        judged = contest.judged(name)
        tunes = name in contest.tuners
        settings = contest.best(name) if tunes else judged[0].plan.params
        told[name] = contestant(name, contest.tuned(name), judged, theirs, target, settings)
        cures.append(told[name].cure(best_loss(judged), baseline, best_loss(theirs), trained))
    order = ranked(cures)
    first = winner(order)
    recorded = [c for c in order if c.remedy in names]
    return _Told(baseline, [told[c.remedy] for c in order], recorded, first.remedy if first is not None else None)


def _so_far(contest: Contest) -> str:
    """What there is when a race is interrupted."""
    lines = ["so far:"]
    for who in contest.contestants:
        if who in contest.dropped:
            lines.append(f"  {who}: refused")
            continue
        tuned = contest.tuned(who)
        text = f"{len(tuned)} of {contest.options.trials} tuning trials" if who in contest.tuners else "no tuning"
        if contest.has_setting(who):
            text += f", best smoothed loss {min(e.score for e in tuned):.4g}, {len(contest.judged(who))} judging runs"
        lines.append(f"  {who}: {text}")
    lines.append("the same command with the same --out goes on from here and repeats no finished trial")
    return "\n".join(lines)
