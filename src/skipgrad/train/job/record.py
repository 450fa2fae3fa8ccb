"""The run file of a training: what ``skipgrad watch`` and ``skipgrad report`` read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from skipgrad.core import Account, BadInput, Ending, Finding, LossPoint, RunFileError, SkipGraph, Trial
from skipgrad.core.training import TrainingRecipe
from skipgrad.ledger import Recording
from skipgrad.models import Workload
from skipgrad.models.versions import versions
from skipgrad.store import RunWriter, read_latest, set_aside
from skipgrad.train.job.options import TrainOptions
from skipgrad.writers import WRITERS, RowWriter

PACE = 0.5  # seconds from one commit to the next
JOB = "train"


class Record:
    """Writes the run file, where this process is the one that does.

    Args:
        path: of the file.
        options: what is trained.
        recipe: with nothing left open.
        work: the workload.
        active: whether this process writes.
    """

    def __init__(
        self, path: Path, options: TrainOptions, recipe: TrainingRecipe, work: Workload, *, active: bool
    ) -> None:
        self.path, self._options, self._recipe, self._work, self._active = path, options, recipe, work, active
        self._file: RunWriter | None = None
        self._end: Ending | None = None
        self._committed = 0.0
        self.trial: Trial = recipe.trial(0, measured=recipe.measure_every != 0)

    @staticmethod
    def check_free(path: Path, options: TrainOptions) -> None:
        """Refuses a folder with the run file of something else in it.

        Raises:
            BadInput: there is one.
        """
        if not path.exists():
            return
        try:
            meta = read_latest(path).meta
        except RunFileError:
            meta = {}
        what = (meta.get("job"), meta.get("model"), meta.get("data"))
        if meta and what != (JOB, options.model, options.data):
            raise BadInput(
                "training into a folder",
                where=str(path.parent),
                received=f"the run of something else: {meta.get('model')} on {meta.get('data')}"
                + ("" if meta.get("job") == JOB else ", which was no training"),
                todo="give another --out",
            )

    @contextmanager
    def open(self, graph: SkipGraph | None, *, going_on: bool) -> Iterator[Record]:
        """The file, open for the time of the training; how it ended is written as it closes."""
        if not self._active:
            yield self
            return
        there = self.path.exists()
        if there and not going_on:
            set_aside(self.path.parent)  # it was killed before there was a checkpoint
        append = there and going_on
        with RunWriter.append(self.path) if append else RunWriter.create(self.path, self._meta()) as file:
            self._file = file
            file.meta(state="running", threads=_threads()).trial(self.trial)
            if graph is not None and not append:
                file.graph(graph)
                for note in graph.notes:
                    file.note(note)
            file.commit()
            try:
                yield self
            finally:
                if self._end is not None:
                    file.meta(**self._end.meta())
                self._file = None

    def recording(self, before: Account | None = None) -> Recording:
        """Where a ledger's rows go; with the account of the training so far, where it goes on."""
        assert self._file is not None
        return Recording(self._file, trial=self.trial, pace=PACE, writers=self.writers(), before=before)

    def writers(self) -> tuple[RowWriter, ...]:
        """What else gets the rows; a training that goes on writes beside what was written."""
        made = []
        for kind in self._options.log:
            entry, folder, number = WRITERS.get(kind), self.path.parent / kind, 1
            while folder.exists() and kind != "tensorboard":
                number += 1
                folder = self.path.parent / f"{kind}.{number}"
            config = {k: v for k, v in self._meta().items() if k not in ("recipe", "versions")}
            more = {"name": self._options.model, "config": config} if entry.keeps_config else {}
            made.append(entry.make(folder, **more))
        return tuple(made)

    def loss(self, point: LossPoint) -> None:
        """A loss, where no ledger writes it."""
        if self._file is None:
            return
        self._file.losses([point])
        now = time.monotonic()
        if now - self._committed >= PACE:
            self.commit()

    def evaluations(self, all_: Sequence[dict[str, Any]], metric: str) -> None:
        """All evaluations so far."""
        if self._file is not None:
            self._file.meta(evaluations=list(all_), metric=metric).commit()

    def findings(self, findings: Sequence[Finding]) -> None:
        """What was diagnosed."""
        if self._file is not None:
            self._file.findings(findings).commit()

    def account(self, account: Account) -> None:
        """What became of the forwards, over all processes that one after the other made this training."""
        if self._file is not None:
            self._file.meta(account=account.to_dict())

    def about(self, **values: Any) -> None:
        """More of `Run.meta`."""
        if self._file is not None:
            self._file.meta(**values)

    def note(self, text: str) -> None:
        """Something to mind."""
        if self._file is not None:
            self._file.note(text)

    def ends(self, end: Ending, steps: int | None = None, state: str = "") -> None:
        """How it ended; written when the file closes."""
        self._end = end
        if self._file is None:
            return
        done = "diverged" if state == "failed" else "done" if end.state == "done" else "interrupted"
        self._file.trial(replace(self.trial, state=done))
        if steps is not None:
            self._file.meta(steps=steps)
        if state:
            self._file.meta(ended=state)
        self._file.commit()

    def commit(self) -> None:
        """What was recorded is safe against a kill."""
        if self._file is not None:
            self._file.commit()
            self._committed = time.monotonic()

    def _meta(self) -> dict[str, Any]:
        options, recipe = self._options, self._recipe
        return {
            "job": JOB,
            "model": options.model,
            "data": options.data,
            "fit": list(self._work.fit),
            "command": options.command,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in recipe.meta().items()},
            "recipe": recipe.to_toml(),
            "versions": versions(),
            "state": "running",
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        }


def _threads() -> dict[str, Any]:
    many = torch.get_num_threads()
    return {"chosen": many, "allowed": many, "how": "kept from the start to the end of the training", "changes": []}
