"""The course of a training: steps, evaluations and checkpoints, until it is over or somebody wants it to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skipgrad.core import Account, Ending, Finding, LayerRow, LossPoint, SkipRow
from skipgrad.diagnosis import diagnose
from skipgrad.instrument.wrappers import unwrap
from skipgrad.ledger import Ledger
from skipgrad.models import Workload
from skipgrad.store import read_run
from skipgrad.train.clock import Clock
from skipgrad.train.job.evaluate import evaluate, figure_of
from skipgrad.train.job.options import State, TrainResult
from skipgrad.train.job.pace import Pace
from skipgrad.train.job.record import Record
from skipgrad.train.job.signals import Wish
from skipgrad.train.job.speed import Speed
from skipgrad.train.loop import advance
from skipgrad.train.saving import Checkpoints, Saved, save_weights
from skipgrad.train.session import Session

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass(frozen=True)
class Setting:
    """What a course takes place in.

    Attributes:
        session: what is trained.
        held: what it is evaluated on; None for nothing.
        each: steps an epoch.
        folder: for weights.
        checkpoints: of the folder.
        record: the run file.
        same: what must be the same when it goes on.
        save_every: seconds between checkpoints.
        clock: seconds of training.
        wish: somebody's, to stop.
        progress: called with (stage, steps done, steps in all, note).
    """

    session: Session
    held: Workload | None
    each: int
    folder: Path
    checkpoints: Checkpoints
    record: Record
    same: dict[str, Any]
    save_every: float
    clock: Clock
    wish: Wish
    progress: Callable[[str, int, int, str], Any]


class Course:
    """Takes the steps; made anew for each process that takes a part of them.

    Args:
        setting: what it takes place in.
        saved: the checkpoint it goes on from.
    """

    def __init__(self, setting: Setting, saved: Saved | None) -> None:
        self.setting, self.session = setting, setting.session
        self.recipe = self.session.recipe
        about = saved.about if saved is not None else {}
        self.first = int(about.get("step", 0))
        self.loss: float | None = about.get("loss")
        self.evaluations: list[dict[str, Any]] = list(about.get("evaluations", []))
        self.metric, self.more = figure_of(setting.held.task if setting.held is not None else "")
        self.pace = Pace(self.recipe.measure_every, self.recipe.steps)
        self.speed = Speed(self.recipe.batch_size)
        self._before = Account()
        if saved is not None:
            self.pace.load_state_dict(about["pace"])
            self._before = Account.from_dict(about["account"])
        self.ledger: Ledger | None = None
        self._headline = ""
        self._saved_at = time.monotonic()

    def run(self, batches: Iterator[Any], *, measuring: bool) -> TrainResult:
        """Takes the steps that are left.

        Args:
            batches: micro-batches from the first of these steps on.
            measuring: whether a ledger is on.
        """
        setting, record = self.setting, self.setting.record
        self.step = self.first
        with ExitStack() as stack:
            if measuring:
                session = self.session
                self.ledger = Ledger(
                    session.model, optimizer=session.optimizer, recording=record.recording(self._before)
                )
                if self.recipe.precision == "float16":
                    self.ledger.scaled_by(session.scaler)
                stack.enter_context(self.ledger.on_rows(self._look)).at(self.first)
                self.pace.before(self.ledger, self.first)
            state, reason = self._steps(batches)
            if self.ledger is not None:
                self.ledger.push()
        findings = self._end(state)
        if state != "failed":
            self._save(state, reason)
        return TrainResult(
            state,
            self.step,
            self.recipe.steps,
            self.loss,
            tuple(self.evaluations),
            self.best,
            self.metric,
            setting.folder,
            findings,
            reason,
            self.session.group.rank,
        )

    # -- steps -------------------------------------------------------------------------------------
    def _steps(self, batches: Iterator[Any]) -> tuple[State, str]:
        # What a signal kept a checkpoint's process from: it was saved before the evaluation was over.
        if self.first and self._due(self.first) and not self._evaluate():
            return "interrupted", self._why()
        if self._patience_is_over():
            return "stopped early", self._why_early()
        steps = advance(self.session, batches, self.setting.clock, first=self.first)
        before = self.setting.clock.seconds()
        for point in steps:
            self.step, self.loss = point.step + 1, point.loss
            self._took(point, point.seconds - before)
            before = point.seconds
            if not math.isfinite(point.loss):
                return "failed", f"the loss of step {point.step} is {point.loss}: {self._last_good()}"
            if self._due(self.step) and not self._evaluate():
                return "interrupted", self._why()
            if self._patience_is_over():
                return "stopped early", self._why_early()
            wished, late = self._wanted()
            if wished and self.step < self.recipe.steps:
                return "interrupted", self._why()
            if late and self.step < self.recipe.steps:
                self._save("running", "")
        return "finished", ""

    def _took(self, point: LossPoint, seconds: float) -> None:
        setting, ledger = self.setting, self.ledger
        if ledger is None:
            setting.record.loss(point)
        else:
            ledger.loss_at(point)
            ledger.push()
            self.pace.after(point.step, seconds)
            self.pace.before(ledger, self.step)
        note = self.speed(self.step, self.recipe.steps, point.loss)
        if note is not None:
            setting.progress("training", self.step, self.recipe.steps, f"{note}{self._evaluated()}{self._headline}")

    def _look(self, skips: list[SkipRow], layers: list[LayerRow], losses: list[LossPoint]) -> None:
        """The ledger's headline: how much of the gradient takes the shortcuts, over the skips of the newest step."""
        newest = [r for r in skips if r.step == skips[-1].step and r.finite] if skips else []
        squares = [(r.skip_norm**2, r.skip_norm**2 + r.branch_norm**2) for r in newest]
        shares = [s / whole for s, whole in squares if whole]
        if shares:
            self._headline = f", {100 * sum(shares) / len(shares):.0f} % of the gradient by the shortcuts"

    def _wanted(self) -> tuple[bool, bool]:
        """Whether somebody wants it to stop, and whether a checkpoint is due; the same in all processes."""
        group = self.session.group
        late = time.monotonic() - self._saved_at >= self.setting.save_every
        wished = bool(self.setting.wish.name)
        return group.any(wished), group.any(late)

    # -- evaluation --------------------------------------------------------------------------------
    def _due(self, step: int) -> bool:
        each = self.setting.each * self.recipe.eval_every
        if self.setting.held is None or (self.evaluations and self.evaluations[-1]["step"] == step):
            return False
        return step % each == 0 or step == self.recipe.steps

    def _evaluate(self) -> bool:
        """Evaluates, and keeps the weights where they are the best; False when somebody wants it to stop meanwhile."""
        setting, session = self.setting, self.session
        assert setting.held is not None
        setting.progress("training", self.step, self.recipe.steps, "evaluating …")
        figures = evaluate(
            unwrap(session.evaluated),
            setting.held,
            device=session.device,
            precision=session.precision,
            stop=lambda: bool(setting.wish.name) and session.group.world == 1,
        )
        if figures is None:
            return False
        row = {"step": self.step, "epoch": self.step / setting.each, **figures}
        self.evaluations.append(row)
        if self.best is row:
            header = {self.metric: str(row[self.metric]), "step": str(self.step)}
            weights = session.group.states(session.evaluated, session.optimizer)[0]
            if session.group.rank == 0:
                save_weights(weights, setting.folder / BEST, header)
        setting.record.evaluations(self.evaluations, self.metric)
        return True

    @property
    def best(self) -> dict[str, Any] | None:
        """The best evaluation so far, the first of equals; None when there is none that is a number."""
        known = [e for e in self.evaluations if math.isfinite(e[self.metric])]
        if not known:
            return None
        return (max if self.more else min)(known, key=lambda e: e[self.metric])

    def _patience_is_over(self) -> bool:
        patience, best = self.recipe.patience, self.best
        if patience is None or best is None or self.step == self.recipe.steps:
            return False
        return sum(e["step"] > best["step"] for e in self.evaluations) >= patience

    # -- keeping -----------------------------------------------------------------------------------
    def _save(self, state: str, reason: str) -> None:
        """A checkpoint, and the weights; first the rows that lead to it."""
        setting, session = self.setting, self.session
        setting.record.commit()
        with setting.clock.paused():
            kept = session.state_dict()
            if session.group.rank == 0:
                about = {
                    "step": self.step,
                    "state": state,
                    "reason": reason,
                    "seconds": setting.clock.seconds(),
                    "loss": self.loss,
                    "threads": torch.get_num_threads(),
                    "evaluations": self.evaluations,
                    "best": self.best,
                    "pace": self.pace.state_dict(),
                    "account": self._account().to_dict(),
                    "of": setting.same,
                }
                header = {"step": str(self.step)}
                save_weights(kept["model"], setting.folder / LAST, header)
                setting.checkpoints.save(kept, about)
        self._saved_at = time.monotonic()

    def _account(self) -> Account:
        return self._before if self.ledger is None else self.ledger.account.after(self._before)

    def _end(self, state: State) -> tuple[Finding, ...]:
        """Diagnoses what is over, and says in the run file how it ended."""
        record, findings = self.setting.record, ()
        if self.ledger is not None:
            for note in self.ledger.notes:
                record.note(note)
            record.account(self._account())
        record.commit()
        if self.ledger is not None and state != "interrupted":
            findings = diagnose(read_run(record.path))
            record.findings(findings)
        record.ends(Ending("interrupted" if state == "interrupted" else "done"), self.step, state)
        return findings

    # -- words -------------------------------------------------------------------------------------
    def _evaluated(self) -> str:
        if not self.evaluations:
            return ""
        last = self.evaluations[-1]
        return f", {self.metric} {last[self.metric]:.4g}"

    def _why(self) -> str:
        name = self.setting.wish.name or "another process"
        return f"{name} after step {self.step} of {self.recipe.steps}; the same command goes on"

    def _why_early(self) -> str:
        best = self.best
        assert best is not None
        return f"no better {self.metric} in {self.recipe.patience} evaluations; the best was {best[self.metric]:.4g}"

    def _last_good(self) -> str:
        if not self.setting.checkpoints.exist:
            return "there is no checkpoint from before it; use a lower rate, a warm-up or clip"
        return f"the last checkpoint from before it is kept ({LAST}); use a lower rate, a warm-up or clip"
