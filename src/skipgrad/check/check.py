"""The main job: fit, find, measure, diagnose, try the cures, report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import nn

from skipgrad.check.change import looking
from skipgrad.check.cured import after_cure
from skipgrad.check.options import CheckOptions, CheckResult
from skipgrad.check.paths import WHAT, path_row
from skipgrad.core import Cure, Finding, LossPoint, MeasureError, RemedyRefused, SkipGraph, Trial
from skipgrad.core.rank import nearest
from skipgrad.diagnosis import diagnose, prescriptions
from skipgrad.instrument.threads import Threads
from skipgrad.ledger import Ledger, Recording
from skipgrad.models import Workload, fit
from skipgrad.race import (
    COMMIT_EVERY,
    Progress,
    RaceRecord,
    RaceResult,
    find_skips,
    prepare_with,
    race,
    rates_around,
    run_file,
    seeds_from,
    steps_of,
    verdicts,
)
from skipgrad.race.chance import constant_loss
from skipgrad.remedies import REMEDIES, remedy
from skipgrad.report import write_html
from skipgrad.store import REPORT, RUN, drop_empty, make_folder, read_run, set_aside
from skipgrad.train import Prepare, device_of, settle, train_trial

MOST_CURES = 2  # prescribed ones; whoever names more with --try gets more
MEASURED_STEPS = 100  # of a longer run, every n-th step is measured


def check(options: CheckOptions, progress: Progress | None = None) -> CheckResult:
    """Trains a model a little, measures its skips, diagnoses, tries the cures and writes a report.

    Args:
        options: what to check.
        progress: called with (stage, done, total, note) as it goes.

    Returns:
        What was found, with the paths of run file and report.

    Raises:
        SkipgradError: a mistake of the user's; what had been measured by then is kept in the run file.
        KeyboardInterrupt: passed on, with a note that says where what was measured is kept.
    """
    return _Check(options, progress or (lambda *_: None)).run()


class _Check:
    def __init__(self, options: CheckOptions, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        for name in options.remedies:
            remedy(name)  # a wrong name is told before anything is trained
        device_of(options.recipe.device)
        self.threads = Threads(options.threads)
        self.folder = make_folder(options.out, options.model, options.data)
        self.path = self.folder / RUN
        self.report = self.folder / REPORT
        self.chance: float | None = None

    def run(self) -> CheckResult:
        options = self.options
        self.progress("fitting model and data", 0, 0, f"{options.model} on {options.data}")
        try:
            workload = fit(options.model, options.model_args, options.data, batch_size=options.recipe.batch_size)
        except BaseException:
            drop_empty(self.folder)
            raise
        set_aside(self.folder)
        # Decay moves weights that the gradient no longer moves, and would hide what SG003 looks for.
        decay = options.recipe.weight_decay or 0.0
        self.recipe = replace(options.recipe.for_task(workload.task), weight_decay=decay)
        meta = {
            "model": options.model,
            "data": options.data,
            "fit": list(workload.fit),
            "command": options.command,
            "report": str(self.report),
            **self.recipe.meta(),
        }
        with run_file(self.path, meta) as self.file, self.threads:
            self._work(workload)
            self.file.meta(threads=self.threads.meta())
        write_html(read_run(self.path), self.report)
        self.progress("done", 1, 1, str(self.report))
        return CheckResult(read_run(self.path), self.path, self.report)

    # -- the parts ---------------------------------------------------------------------------------
    def _work(self, workload: Workload) -> None:
        self.progress("finding skips", 0, 0, "")
        torch.manual_seed(self.recipe.seed)
        model = workload.build().to(self.recipe.device)
        graph = find_skips(model, workload, device=self.recipe.device)
        graph = replace(graph, model=self.options.model)
        del model
        self.file.graph(graph)
        for note in graph.notes:
            self.file.note(note)
        self.file.commit()

        if not self.threads.settled:
            self.progress("choosing threads", 0, 0, "by a few steps")
            settle(workload, self.recipe, self.threads)
        self.file.meta(threads=self.threads.meta())
        trial = self.recipe.trial(0, measured=True)
        ledger = self._measured(workload, trial, None, "measuring the patient", graph)
        self.chance = constant_loss(workload, graph, device=self.recipe.device)
        if self.chance is not None:
            self.file.meta(chance=self.chance)
        findings = diagnose(ledger, chance=self.chance)
        self.file.findings(findings)
        for note in ledger.notes:
            self.file.note(note)
        self.file.commit()
        if not self.options.attempt:
            return
        names = _prescribed(findings, self.options.remedies)
        if not names:
            self.file.note("no finding prescribes a remedy, so none was tried (name one with --try)")
        refused = [cure for name in names if (cure := _refusal(name, graph, ledger)) is not None]
        names = [n for n in names if n not in {c.remedy for c in refused}]
        names, left = (names, []) if self.options.remedies else (names[:MOST_CURES], names[MOST_CURES:])
        if left:
            self.file.note(f"prescribed but not tried (name it with --try): {', '.join(left)}")
        self.file.cures(refused).commit()
        if names:
            self._cures(workload, graph, names, findings)

    def _measured(
        self, workload: Workload, trial: Trial, prepare: Prepare | None, stage: str, graph: SkipGraph | None = None
    ) -> Ledger:
        """One trial with the ledger on, its rows and its gradient by path length written as they come."""
        recipe = replace(self.recipe, lr=trial.rate, seed=trial.seed)
        every = max(1, recipe.steps // MEASURED_STEPS)
        watched: list[tuple[nn.Module, Ledger]] = []

        def observe(model: nn.Module, optimizer: torch.optim.Optimizer) -> Ledger:
            recording = Recording(self.file, trial=trial, pace=COMMIT_EVERY)
            ledger = Ledger(model, optimizer=optimizer, every=every, recording=recording)
            watched.append((model, ledger))
            paths(0)
            if trial.remedy is None and graph is not None:  # the places of its branches are those of the graph
                stack.enter_context(looking(model, graph, optimizer, recipe.steps, ledger, self.file))
            return ledger

        def paths(step: int) -> None:
            model, ledger = watched[0]
            row = path_row(workload, model, step, recipe.device, graph)
            if row is None:
                return
            if row.spectrum is None:
                when = "after the last step" if step else "before the first step"
                who = f", with {trial.remedy}" if trial.remedy else ""
                self.file.note(f"{WHAT}, {when}{who}: not measured: {row.reason}")
            ledger.spectrum_at(row)

        def on_step(point: LossPoint) -> None:
            ledger = watched[0][1]
            ledger.loss_at(point)
            ledger.push()
            # Now, as the remedy under trial is undone when the trial ends.
            if point.step + 1 == recipe.steps and math.isfinite(point.loss):
                paths(recipe.steps)
            self.progress(stage, point.step + 1, recipe.steps, f"loss {point.loss:.4g}")

        self.file.trial(trial)
        with ExitStack() as stack:
            result = train_trial(
                workload, recipe, trial=trial, prepare=prepare, observe=observe, on_step=on_step, threads=self.threads
            )
        self.file.trial(result.trial).commit()
        return watched[0][1]

    def _cures(self, workload: Workload, graph: SkipGraph, names: Sequence[str], findings: Sequence[Finding]) -> None:
        cures = {n: prepare_with(n, workload, device=self.recipe.device, graph=graph) for n in names}
        rates, seeds = rates_around(self.recipe.rate), seeds_from(self.recipe.seed)
        steps = steps_of(1 + len(names), len(rates), len(seeds), self.recipe.steps)
        record = RaceRecord(self.file, self.progress, "trying " + ", ".join(names), steps)
        result = race(
            workload,
            self.recipe,
            cures,
            rates=rates,
            seeds=seeds,
            on_event=record,
            first_trial_id=1,
            threads=self.threads,
        )
        told = verdicts(result)
        self.file.cures(told).commit()
        best = nearest(told)
        if best is not None and best.rate is not None:
            recipe = replace(self.recipe, lr=best.rate)
            trial = recipe.trial(_next_id(result), best.remedy, measured=True)
            ledger = self._measured(workload, trial, cures[best.remedy], f"measuring the net with {best.remedy}")
            for note in ledger.notes:
                self.file.note(f"with {best.remedy}: {note}")
            for told in after_cure(best.remedy, findings, diagnose(ledger, chance=self.chance)):
                self.file.note(told)


def _prescribed(findings: Sequence[Finding], named: Sequence[str]) -> list[str]:
    """The remedies named, else those the findings prescribe, the gravest finding's first."""
    if named:
        return list(dict.fromkeys(named))
    return [n for n in prescriptions(findings) if n in REMEDIES]


def _refusal(name: str, graph: SkipGraph, ledger: Ledger) -> Cure | None:
    """A remedy that does not apply to this model is told before the race, and takes no place in it."""
    try:
        remedy(name).plan(graph, ledger)
    except (RemedyRefused, MeasureError) as error:
        return Cure(name, "refused", error.received or error.doing)
    return None


def _next_id(result: RaceResult) -> int:
    return 1 + max(r.trial.id for trials in (result.patient, *result.cures.values()) for r in trials)
