"""An honest race as a job: the model and the data by reference, and nothing that was finished is lost."""

from __future__ import annotations

import json
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from skipgrad.boost.apart import apart
from skipgrad.boost.boost import contestants
from skipgrad.boost.contest import Apart, Contest
from skipgrad.boost.entry import BASELINE, UNTUNED
from skipgrad.boost.judge import Contestant, best_loss, contestant
from skipgrad.boost.kept import Kept, need_optuna, steps_kept
from skipgrad.boost.options import BoostOptions, steps_for
from skipgrad.boost.outcome import BoostResult, sentence_of
from skipgrad.boost.place import ground_of, place_of, workloads
from skipgrad.boost.space import recipe_of
from skipgrad.boost.target import Target, choose
from skipgrad.boost.transfer import NAME as TRANSFER
from skipgrad.boost.transfer import SEEDS, carry, look, shallow
from skipgrad.core import Cure, Recipe
from skipgrad.core.files import write_text
from skipgrad.core.rank import ranked, winner
from skipgrad.instrument.threads import Threads
from skipgrad.models import Workload
from skipgrad.race import Progress, RaceRecord, constant_loss, run_file, trains, versions
from skipgrad.race.spread import spread_of
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
    spread = spread_of(options.workers, options.ray)
    folder = make_folder(options.out, options.model, options.data)
    tell("fitting model and data", 0, 0, f"{options.model} on {options.data}")
    try:
        place = place_of(options, shallow(options) if options.tune_at_depth is not None else None)
        fitted = workloads(place)
    except BaseException:
        drop_empty(folder)
        raise
    workload = fitted[0][0]
    # Side by side they have a thread each, unless somebody says otherwise.
    asked = 1 if spread is not None and options.threads in (None, "auto") else options.threads
    threads = Threads(asked)
    recipe = options.recipe.for_task(workload.task)
    with threads, spread or nullcontext():
        many = 1 + len(names)
        settle(workload, recipe, threads)
        recipe = replace(recipe, steps=_steps(options, recipe, workload, folder, many, threads))
        with closing(Kept(folder, _identity(options, recipe))) as kept:
            set_aside(folder)
            beside = _Beside() if spread is None else _Beside(apart(spread, place, int(asked or 1)), spread.slots)
            return _race(options, recipe, names, fitted, kept, threads, folder, tell, beside)


@dataclass(frozen=True)
class _Beside:
    """What runs trials side by side, and how many at once."""

    run: Apart | None = None
    slots: int = 1


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
        "holdout": options.holdout,
        "skipgrad": own["skipgrad"],
        "torch": own["torch"],
    }
    return json.loads(json.dumps(told, default=str))


def _race(
    options: BoostOptions,
    recipe: Recipe,
    names: list[str],
    fitted: list[tuple[Workload, Workload | None]],
    kept: Kept,
    threads: Threads,
    folder: Path,
    tell: Progress,
    beside: _Beside,
) -> BoostResult:
    path = folder / RUN
    workload = fitted[0][0]
    meta = {
        "model": options.model,
        "data": options.data,
        "fit": list(workload.fit),
        "command": options.command,
        **recipe.meta(),
    }
    with run_file(path, meta) as file:
        tell("finding skips", 0, 0, "")
        grounds = [ground_of(*one, recipe.device) for one in fitted]
        ground = grounds[0]
        file.graph(ground.graph)
        _write_kept(file, kept)
        file.commit()
        more = options.trials * (SEEDS - 1) if grounds[1:] else 0
        steps = (options.trials_in_all(1 + len(names)) + more - _done(kept, options, names)) * recipe.steps
        record = RaceRecord(file, tell, "racing " + ", ".join(names), max(steps, 0))
        elsewhere = {TRANSFER: look(recipe, grounds[1])} if grounds[1:] else {}
        contest = Contest(
            options, recipe, names, ground, kept, record, threads, elsewhere, beside.run, beside.slots
        )  # fmt: skip
        _warm(workload, recipe, threads)
        try:
            contest.run(after_tuning=carry if elsewhere else None)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(_so_far(contest))
            raise
        chance = constant_loss(workload, ground.graph, device=recipe.device)
        target = choose(contest.judged(BASELINE), contest.tuned(BASELINE), options.target, chance)
        told = _judge(contest, names, target)
        for one in told.others:
            if one.other_machine:
                contest.note(
                    f"{one.other_machine} of {one.runs} runs of {one.name} were on another machine than the "
                    "baseline's: their seconds are not compared."
                )
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
        contest.q,
    )
    write_text(folder / RECIPE, result.toml, doing="writing the winner's recipe")
    return result


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
    trained = 2 * sum(trains(e.raced) for e in theirs) >= len(theirs)
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


def _done(kept: Kept, options: BoostOptions, names: list[str]) -> int:
    """How many of this race's trials are finished; the folder may hold those of the other ruleset, too."""
    tuned, plans = options.ruleset == "tuned", [e.plan for e in kept.entries()]
    return sum(p.who == BASELINE or (p.who in (UNTUNED, *names) and p.typed != tuned) for p in plans)


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
