"""The main job: fit, find, measure, diagnose, try the cures, report."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch
from torch import nn

from skipgrad._version import __version__
from skipgrad.check.folder import REPORT, RUN, drop_empty, make_folder, set_aside
from skipgrad.check.options import CheckOptions, CheckResult, Progress
from skipgrad.check.paths import WHAT, path_row
from skipgrad.core import Cure, Finding, LossPoint, MeasureError, RemedyRefused, SkipGraph, Trial, ending
from skipgrad.core.rank import nearest
from skipgrad.core.run import SEVERITIES
from skipgrad.diagnosis import diagnose
from skipgrad.instrument.threads import Threads
from skipgrad.ledger import Feed, Ledger, watch
from skipgrad.models import Workload, fit
from skipgrad.race import (
    Dropped,
    Event,
    Finished,
    Noted,
    RaceResult,
    Started,
    Stepped,
    find_skips,
    prepare_with,
    race,
    verdicts,
)
from skipgrad.remedies import REMEDIES, remedy
from skipgrad.report import write_html
from skipgrad.store import RunWriter, read_run
from skipgrad.train import Prepare, Settings, settle, train_trial

STEPS = 100
# The grid around the rate, the same for patient and cures; and the seeds of the comparison.
RATE_FACTORS = (1 / 3, 1.0, 3.0)
SEEDS = 3
MOST_CURES = 2  # prescribed ones; whoever names more with --try gets more
MEASURED_STEPS = 100  # of a longer run, every n-th step is measured
COMMIT_EVERY = 0.5  # seconds


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
        # Settings refuse a bad value before the model is built.
        self.settings = _settings(options, "sgd")
        self.threads = Threads(options.threads)
        self.folder = make_folder(options.out, options.model, options.data)
        self.path = self.folder / RUN
        self.report = self.folder / REPORT
        self.committed = 0.0

    def run(self) -> CheckResult:
        options = self.options
        self.progress("fitting model and data", 0, 0, f"{options.model} on {options.data}")
        try:
            workload = fit(options.model, options.model_args, options.data, batch_size=options.batch_size)
        except BaseException:
            drop_empty(self.folder)
            raise
        set_aside(self.folder)
        self.settings = _settings(options, "adamw" if workload.task == "language model" else "sgd")
        meta = {
            "model": options.model,
            "data": options.data,
            "fit": list(workload.fit),
            "command": options.command,
            "seed": options.seed,
            "steps": self.settings.steps,
            "batch_size": options.batch_size,
            "optimizer": self.settings.optimizer,
            "lr": self.settings.lr,
            "weight_decay": 0.0,
            "device": options.device,
            "precision": options.precision,
            "compile": options.compile,
            "versions": _versions(),
            "state": "running",
            "report": str(self.report),
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        with RunWriter.create(self.path, meta) as self.writer:
            try:
                with self.threads:
                    self._work(workload)
            except BaseException as error:
                self.writer.meta(**ending(error).meta()).commit()
                if isinstance(error, KeyboardInterrupt):
                    error.add_note(f"what was measured is kept: {self.path}\nshow it: skipgrad report {self.path}")
                raise
            self.writer.meta(threads=self.threads.meta(), **ending(None).meta())
        write_html(read_run(self.path), self.report)
        self.progress("done", 1, 1, str(self.report))
        return CheckResult(read_run(self.path), self.path, self.report)

    # -- the parts ---------------------------------------------------------------------------------
    def _work(self, workload: Workload) -> None:
        self.progress("finding skips", 0, 0, "")
        torch.manual_seed(self.options.seed)
        model = workload.build().to(self.options.device)
        graph = find_skips(model, workload, device=self.options.device)
        graph = replace(graph, model=self.options.model)
        del model
        self.writer.graph(graph)
        for note in graph.notes:
            self.writer.note(note)
        self.writer.commit()

        if not self.threads.settled:
            self.progress("choosing threads", 0, 0, "by a few steps")
            settle(workload, self.settings, self.threads)
        self.writer.meta(threads=self.threads.meta())
        trial = self.settings.trial(0, measured=True)
        ledger = self._measured(workload, trial, None, "measuring the patient", graph)
        findings = diagnose(ledger)
        self.writer.findings(findings)
        for note in ledger.notes:
            self.writer.note(note)
        self.writer.commit()
        if not self.options.attempt:
            return
        names = _prescribed(findings, self.options.remedies)
        if not names:
            self.writer.note("no finding prescribes a remedy, so none was tried (name one with --try)")
        refused = [cure for name in names if (cure := _refusal(name, graph, ledger)) is not None]
        names = [n for n in names if n not in {c.remedy for c in refused}]
        names, left = (names, []) if self.options.remedies else (names[:MOST_CURES], names[MOST_CURES:])
        if left:
            self.writer.note(f"prescribed but not tried (name it with --try): {', '.join(left)}")
        self.writer.cures(refused)
        self.writer.commit()
        if names:
            self._cures(workload, graph, names)

    def _measured(
        self, workload: Workload, trial: Trial, prepare: Prepare | None, stage: str, graph: SkipGraph | None = None
    ) -> Ledger:
        """One trial with the ledger on, its rows and its gradient by path length written as they come."""
        settings = replace(self.settings, lr=trial.rate, seed=trial.seed)
        every = max(1, settings.steps // MEASURED_STEPS)
        kept: list[Ledger] = []
        models: list[nn.Module] = []
        feeds: list[Feed] = []
        self.writer.trial(trial)

        def observe(model: nn.Module, optimizer: torch.optim.Optimizer) -> AbstractContextManager[Any]:
            models.append(model)
            kept.append(watch(model, optimizer=optimizer, every=every))
            feeds.append(kept[0].feed())
            paths(0)
            return kept[0]

        def paths(step: int) -> None:
            row = path_row(workload, models[0], step, self.options.device, graph)
            if row is None:
                return
            if row.spectrum is None:
                when = "after the last step" if step else "before the first step"
                who = f", with {trial.remedy}" if trial.remedy else ""
                self.writer.note(f"{WHAT}, {when}{who}: not measured: {row.reason}")
            kept[0].spectrum_at(row)
            self.writer.paths(trial.id, [row])

        def write() -> None:
            new = feeds[0].take()
            self.writer.skip_rows(trial.id, new.skips).layer_rows(trial.id, new.layers)
            self._commit()

        def on_step(point: LossPoint) -> None:
            self.writer.losses([point])
            write()
            # Now, as the remedy under trial is undone when the trial ends.
            if point.step + 1 == settings.steps and math.isfinite(point.loss):
                paths(settings.steps)
            self.progress(stage, point.step + 1, settings.steps, f"loss {point.loss:.4g}")

        try:
            result = train_trial(
                workload,
                settings,
                trial=trial,
                prepare=prepare,
                observe=observe,
                on_step=on_step,
                threads=self.threads,
            )
        except BaseException:
            self.writer.trial(replace(trial, state="interrupted"))
            if kept:
                write()
            raise
        write()
        self.writer.trial(result.trial)
        ledger = kept[0]
        for point in result.losses:
            ledger.loss_at(point)
        if trial.remedy is not None and ledger.graph is not None:
            self.writer.graph(ledger.graph, trial=trial.id)
        self.writer.commit()
        return ledger

    def _cures(self, workload: Workload, graph: SkipGraph, names: Sequence[str]) -> None:
        cures = {n: prepare_with(n, workload, device=self.options.device, graph=graph) for n in names}
        rates = [self.settings.lr * f for f in RATE_FACTORS]
        seeds = [self.options.seed + k for k in range(SEEDS)]
        trials = (1 + len(names)) * (len(rates) + len(seeds) - 1)
        stage = "trying " + ", ".join(names)
        self.done = 0

        def on_event(event: Event) -> None:
            if isinstance(event, Started):
                self.writer.trial(event.trial)
            elif isinstance(event, Stepped):
                self.writer.losses([event.point])
                self.done += 1
                who = f"trial {event.point.trial}: loss {event.point.loss:.4g}"
                self.progress(stage, self.done, trials * self.settings.steps, who)
            elif isinstance(event, Finished):
                self.writer.trial(event.result.trial)
            elif isinstance(event, Dropped):
                self.writer.note(f"{event.remedy} was not tried to the end: {event.reason}")
            elif isinstance(event, Noted):
                self.writer.note(event.text)
            self._commit()

        result = race(
            workload,
            self.settings,
            cures,
            rates=rates,
            seeds=seeds,
            on_event=on_event,
            first_trial_id=1,
            threads=self.threads,
        )
        told = verdicts(result)
        self.writer.cures(told)
        self.writer.commit()
        best = nearest(told)
        if best is not None and best.rate is not None:
            trial = Trial(
                _next_id(result), best.remedy, best.rate, self.options.seed, self.settings.steps, measured=True
            )
            ledger = self._measured(workload, trial, cures[best.remedy], f"measuring the net with {best.remedy}")
            for note in ledger.notes:
                self.writer.note(f"with {best.remedy}: {note}")

    def _commit(self) -> None:
        now = time.monotonic()
        if now - self.committed > COMMIT_EVERY:
            self.writer.commit()
            self.committed = now


def _settings(options: CheckOptions, optimizer: str) -> Settings:
    chosen = options.optimizer or optimizer
    return Settings(
        steps=STEPS if options.steps is None else options.steps,
        batch_size=options.batch_size,
        optimizer=chosen,  # type: ignore[arg-type] - checked by Settings
        lr=options.lr if options.lr is not None else (0.05 if chosen == "sgd" else 1e-3),
        seed=options.seed,
        device=options.device,
        precision=options.precision,  # type: ignore[arg-type] - checked by Settings
        compile=options.compile,
        # Decay moves weights that the gradient no longer moves, and would hide what SG003 looks for.
        weight_decay=0.0,
    )


def _prescribed(findings: Sequence[Finding], named: Sequence[str]) -> list[str]:
    """The remedies named, else those the findings prescribe, the gravest finding's first."""
    if named:
        return list(dict.fromkeys(named))
    found = [f for f in findings if f.state == "found"]
    found.sort(key=lambda f: -SEVERITIES.index(f.severity))  # stable: by code within a severity
    # The first choice of every finding before the second choice of any.
    depth = max((len(f.remedies) for f in found), default=0)
    ordered = [f.remedies[k] for k in range(depth) for f in found if k < len(f.remedies)]
    return [n for n in dict.fromkeys(ordered) if n in REMEDIES]


def _refusal(name: str, graph: SkipGraph, ledger: Ledger) -> Cure | None:
    """A remedy that does not apply to this model is told before the race, and takes no place in it."""
    try:
        remedy(name).plan(graph, ledger)
    except (RemedyRefused, MeasureError) as error:
        return Cure(name, "refused", error.received or error.doing)
    return None


def _next_id(result: RaceResult) -> int:
    return 1 + max(r.trial.id for trials in (result.patient, *result.cures.values()) for r in trials)


def _versions() -> dict[str, str]:
    out = {"skipgrad": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in ("torchvision", "timm", "transformers", "segmentation-models-pytorch", "scikit-learn"):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out
