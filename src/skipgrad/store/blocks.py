"""Writes the rows of a trial into blocks, and removes the blocks that the schedule does not keep."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from skipgrad.store import schedule, schema
from skipgrad.store.cells import cell
from skipgrad.store.pack import KINDS, Kind, pack


@dataclass
class _Trial:
    """The state of writing one trial.

    Attributes:
        dense: how many steps are kept without a gap.
        first_step: the first step written; None before there is one.
        step: the newest step.
        place: the number of the newest step among the steps measured, from 0.
        passing: rowids of the newest step's blocks when the schedule does not keep that step. A run file always has its
            newest step, so they are removed only when the next step comes.
        first_bad: kind → the first step with a figure that is not finite.
        resumed: whether nothing was written since the file was opened. An earlier step then means that the run has gone
            back to a checkpoint; later it only means rows that come late.
    """

    dense: int
    first_step: int | None = None
    step: int = 0
    place: int = 0
    passing: list[int] = field(default_factory=list)
    first_bad: dict[str, int] = field(default_factory=dict)
    resumed: bool = False


class BlockWriter:
    """Collects rows until the next commit, then writes them step by step.

    It reads the state of each trial from the file, so that an existing file can be continued.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, dict[int, dict[str, list[Any]]]] = {}  # trial, step, kind
        self._trials: dict[int, _Trial] = {}
        self._subjects: dict[str, dict[Any, int]] | None = None

    def add(self, trial: int, kind: Kind, rows: Sequence[Any]) -> None:
        """Takes rows, to be written at the next `flush`."""
        steps = self._waiting.setdefault(trial, {})
        for step, part in groupby(rows, attrgetter("step")):
            steps.setdefault(step, {}).setdefault(kind.name, []).extend(part)

    def flush(self, connection: sqlite3.Connection) -> None:
        """Writes what waits; the caller commits."""
        try:
            for trial, steps in self._waiting.items():
                for step, kinds in steps.items():
                    self._step(connection, trial, step, kinds)
        except BaseException:
            # The transaction may be rolled back, and then the file no longer has what we remember of it: read it again.
            self._trials.clear()
            self._subjects = None
            raise
        self._waiting.clear()

    def _step(self, connection: sqlite3.Connection, trial: int, step: int, kinds: dict[str, list[Any]]) -> None:
        state = self._trials.get(trial)
        if state is None:
            state = self._trials[trial] = _load(connection, trial, sum(map(len, kinds.values())))
        place = self._arrive(connection, trial, state, step)
        kept = schedule.is_kept(place, state.dense)
        for name, rows in kinds.items():
            numbers = partial(self._numbers, connection, name)
            block, bad = pack(KINDS[name], rows, numbers)
            first_bad = bad is not None and state.first_bad.setdefault(name, step) == step
            why = schema.FIRST_BAD if first_bad else schema.KEPT if kept else schema.NEWEST
            if why != schema.NEWEST or step == state.step:
                rowid = _insert(connection, trial, step, place, name, why, block)
                if why == schema.NEWEST:
                    state.passing.append(rowid)
            if bad is not None and not first_bad:
                # One row of every bad step stays even if its other rows are removed, so that bad steps can be counted.
                one, _ = pack(KINDS[name], [rows[bad]], numbers)
                _insert(connection, trial, step, place, name, schema.WITNESS, one)

    def _arrive(self, connection: sqlite3.Connection, trial: int, state: _Trial, step: int) -> int:
        """The place of a step among the steps measured; a new step has the last one's passing blocks removed."""
        resumed, state.resumed = state.resumed, False
        if state.first_step is None:
            state.first_step, state.step, state.place = step, step, 0
            return 0
        if step == state.step:
            return state.place
        if step > state.step:
            place = state.place + 1
        else:
            place = _place_of(connection, trial, state, step)
            if not resumed:
                return place  # rows that come late, not a run that went back
            state.first_bad = {k: s for k, s in state.first_bad.items() if s < step}
        if state.passing:
            connection.executemany("DELETE FROM blocks WHERE rowid = ?", [(r,) for r in state.passing])
            state.passing.clear()
        state.step, state.place = step, place
        return place

    def _numbers(self, connection: sqlite3.Connection, kind: str, keys: list[Any]) -> list[int]:
        """The numbers of subjects; a subject met for the first time is written into the file and gets one."""
        if self._subjects is None:
            self._subjects = {name: {} for name in KINDS}
            for rowid, name, text in connection.execute("SELECT rowid, kind, subject FROM subjects"):
                self._subjects[name][tuple(json.loads(text))] = rowid
        known = self._subjects[kind]
        numbers = list(map(known.get, keys))
        if None not in numbers:
            return numbers  # pyright: ignore[reportReturnType] - no None is in it
        for key in keys:
            if key not in known:
                plain = tuple(cell(v) for v in key)
                if plain not in known:
                    known[plain] = _added(connection, kind, plain)
                known[key] = known[plain]
        return [known[key] for key in keys]


def _added(connection: sqlite3.Connection, kind: str, subject: tuple[Any, ...]) -> int:
    rowid = connection.execute("INSERT INTO subjects VALUES (?, ?)", (kind, json.dumps(subject))).lastrowid
    assert rowid is not None
    return rowid


def _load(connection: sqlite3.Connection, trial: int, rows: int) -> _Trial:
    """The state of a trial as the file has it; a new state when the file has no such trial."""
    found = connection.execute("SELECT dense FROM schedules WHERE trial = ?", (trial,)).fetchone()
    if found is None:
        state = _Trial(schedule.dense(rows))
        connection.execute("INSERT INTO schedules VALUES (?, ?)", (trial, state.dense))
        return state
    state = _Trial(found[0], resumed=True)
    bad: list[tuple[str, int]] = []
    blocks = connection.execute(
        "SELECT rowid, step, place, kind, why FROM blocks WHERE trial = ? AND why <> ? ORDER BY rowid",
        (trial, schema.WITNESS),
    )
    for rowid, step, place, kind, why in blocks:
        if state.first_step is None or step < state.first_step:
            state.first_step = step
        if not (state.passing and why != schema.NEWEST):
            state.step, state.place = step, place
        if why == schema.NEWEST:
            state.passing.append(rowid)
        if why == schema.FIRST_BAD:
            bad.append((kind, step))
    # A bad step after the newest one was written before the run went back, and no longer counts.
    state.first_bad = {kind: step for kind, step in bad if step <= state.step}
    return state


def _place_of(connection: sqlite3.Connection, trial: int, state: _Trial, step: int) -> int:
    """The place of an earlier step: the one in the file, or else an estimate from its distance to the first step."""
    found = connection.execute(
        "SELECT place FROM blocks WHERE trial = ? AND step = ? LIMIT 1", (trial, step)
    ).fetchone()
    if found:
        return found[0]
    assert state.first_step is not None
    span = state.step - state.first_step
    return max(0, round((step - state.first_step) * state.place / span)) if span > 0 else 0


def _insert(connection: sqlite3.Connection, trial: int, step: int, place: int, kind: str, why: int, block: Any) -> int:
    cells = (trial, step, place, kind, why, block.who, block.finite, block.missing, block.figures)
    rowid = connection.execute(schema.insert("blocks", schema.BLOCK_COLUMNS), cells).lastrowid
    assert rowid is not None
    return rowid
