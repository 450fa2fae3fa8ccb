"""What a watch measures, handed on as it comes: into a run file, and to writers. Every recorded watch uses it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from skipgrad.core import Account, ChangeRow, Ending, LayerRow, LossPoint, PathRow, SkipGraph, SkipRow, Trial
from skipgrad.store import RunWriter
from skipgrad.writers import RowWriter

ACCOUNT_PACE = 1.0  # seconds from one account to the next, at least: it names every layer


class Recording:
    """Where the rows of one watch go.

    Args:
        run: a run file to write (it must not exist); or one that is open, to which this watch adds its trial, and
            whose meta, notes and end are its owner's.
        trial: the record the rows belong to; made of the optimizer's rate and `steps` when None.
        writers: what else gets the rows, step by step; closed with the watch.
        meta: of a run file of its own (`Run.meta`).
        steps: how many are planned; 0 where nobody knows.
        pace: seconds from one commit to the next, at least; 0 commits every step.
        before: the account of an earlier watch, where this one goes on with its training.

    Attributes:
        file: the run file; None outside of the watch, or where there is none.
    """

    def __init__(
        self,
        run: str | Path | RunWriter | None = None,
        *,
        trial: Trial | None = None,
        writers: Sequence[RowWriter] = (),
        meta: dict[str, Any] | None = None,
        steps: int = 0,
        pace: float = 0.0,
        before: Account | None = None,
    ) -> None:
        self.file: RunWriter | None = run if isinstance(run, RunWriter) else None
        self._run, self._trial, self._writers = run, trial, tuple(writers)
        self._meta = {"versions": {"torch": torch.__version__}, **(meta or {}), **({"steps": steps} if steps else {})}
        self._planned, self._pace = steps, pace
        self._graph: SkipGraph | None = None  # as it was last written
        self._last = -1  # the last step that left a row
        self._committed = self._accounted = 0.0
        self._before = before

    def begin(self, rate: float) -> None:
        """The watch begins.

        Args:
            rate: the optimizer's, for the record of the trial.

        Raises:
            OutputError: the run file exists, or cannot be written.
        """
        if self._trial is None:
            # The record wants a seed; the one you gave is not ours to know.
            self._trial = Trial(0, None, rate, 0, self._planned, measured=True)
        if self._run is not None and not isinstance(self._run, RunWriter):
            self.file = RunWriter.create(self._run, {**self._meta, "state": "running"})
        if self.file is not None:
            self.file.trial(self._trial).commit()

    def graph(self, graph: SkipGraph) -> None:
        """The skips that are measured, once they are known; of a treated net they are its trial's.

        The owner of a file that is open has written the patient's.
        """
        if self.file is None or graph is self._graph:
            return
        assert self._trial is not None
        self._graph = graph
        if self._trial.remedy is not None:
            self.file.graph(graph, trial=self._trial.id).commit()
        elif self.file is not self._run:
            self.file.graph(graph).commit()

    def take(
        self,
        skips: Sequence[SkipRow],
        layers: Sequence[LayerRow],
        losses: Sequence[LossPoint],
        account: Callable[[], Account] | None = None,
    ) -> None:
        """Hands on what is new.

        Args:
            skips: rows.
            layers: rows.
            losses: of steps.
            account: makes the ledger's account, which the run file gets now and then.
        """
        if not (skips or layers or losses):
            return
        for rows in (skips, layers):
            if rows:
                self._last = max(self._last, rows[-1].step)
        if self.file is not None:
            assert self._trial is not None
            self.file.skip_rows(self._trial.id, skips).layer_rows(self._trial.id, layers).losses(losses)
            now = time.monotonic()
            if now - self._committed >= self._pace:
                if account is not None and now - self._accounted >= ACCOUNT_PACE:
                    self.file.meta(**self._told(account()))
                    self._accounted = now
                self.file.commit()
                self._committed = now
        for writer in self._writers:
            writer(skips, layers, losses)

    def paths(self, row: PathRow) -> None:
        """The gradient by path length at one step."""
        if self.file is not None:
            assert self._trial is not None
            self.file.paths(self._trial.id, [row])

    def changes(self, row: ChangeRow) -> None:
        """What one step changed of the branches."""
        if self.file is not None:
            assert self._trial is not None
            self.file.changes(self._trial.id, [row])

    def end(self, end: Ending, steps: int | None, notes: Sequence[str], account: Account | None = None) -> None:
        """The watch is over; each writer and the file are closed, also when one of them raises.

        Args:
            end: how it ended.
            steps: how many were made, where the loop counts them.
            notes: the ledger's.
            account: the ledger's.
        """
        with ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)
            stack.callback(self._finish, end, steps, notes, account)

    def _told(self, account: Account) -> dict[str, Any]:
        """The account as an entry of `Run.meta`, which is of the patient."""
        if self._trial is None or self._trial.remedy is not None:
            return {}
        return {"account": (account if self._before is None else account.after(self._before)).to_dict()}

    def _finish(self, end: Ending, steps: int | None, notes: Sequence[str], account: Account | None) -> None:
        file, self.file = self.file, None
        if file is None:
            return
        assert self._trial is not None
        made = self._last + 1 if steps is None else steps
        trial = replace(self._trial, state="done" if end.state == "done" else "interrupted")
        accounted = {} if account is None else self._told(account)
        if file is self._run:
            file.meta(**accounted).trial(trial).commit()
            return
        with file:
            file.trial(replace(trial, steps=made))
            file.meta(steps=made, **accounted, **end.meta())
            for note in notes:
                file.note(note)
