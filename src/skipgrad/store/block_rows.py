"""Reads the rows of trials out of their blocks."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skipgrad.core import LayerRow, SkipRow, Thinned
from skipgrad.store import schedule, schema
from skipgrad.store.pack import KINDS, Block, unpack


@dataclass(frozen=True)
class BlockRows:
    """The rows of a file, by trial.

    Attributes:
        skips: trial → its skip rows.
        layers: trial → its layer rows.
        thinned: trial → which of its steps are given, for the trials of which some are left out. Where all that the
            file has is given, ``every`` is the stride at the end of the trial.
    """

    skips: dict[int, tuple[SkipRow, ...]]
    layers: dict[int, tuple[LayerRow, ...]]
    thinned: dict[int, Thinned]


def read_blocks(
    connection: sqlite3.Connection, before: Mapping[str, Mapping[int, tuple[Any, ...]]], all_kept: bool
) -> BlockRows:
    """The rows in a file's blocks, appended to the rows that were read before.

    Raises:
        ValueError, KeyError: a damaged file.
    """
    subjects = read_subjects(connection)
    trials = dict(connection.execute("SELECT trial, dense FROM schedules ORDER BY rowid"))
    rows: dict[str, dict[int, tuple[Any, ...]]] = {kind: dict(before.get(kind, {})) for kind in KINDS}
    thinned: dict[int, Thinned] = {}
    for trial, dense in trials.items():
        last = connection.execute("SELECT max(place) FROM blocks WHERE trial = ?", (trial,)).fetchone()[0] or 0
        every = schedule.stride(last, dense)
        if every > 1:
            thinned[trial] = Thinned(steps=last + 1, every=every, dense=dense)
        wanted: dict[str, list[int]] = defaultdict(list)
        index = connection.execute(
            "SELECT rowid, place, kind, why FROM blocks WHERE trial = ? ORDER BY rowid", (trial,)
        )
        for rowid, place, kind, why in index:
            if all_kept or why != schema.KEPT or place % every == 0 or place == last:
                wanted[kind].append(rowid)
        for kind, rowids in wanted.items():
            rows[kind][trial] = rows_in(connection, kind, rowids, subjects, rows[kind].get(trial, ()))
    return BlockRows(rows["skips"], rows["layers"], thinned)


def read_subjects(connection: sqlite3.Connection) -> dict[int, tuple[Any, ...]]:
    """Number of a subject → the fields that make it."""
    return {i: tuple(json.loads(text)) for i, text in connection.execute("SELECT rowid, subject FROM subjects")}


def rows_in(
    connection: sqlite3.Connection,
    kind: str,
    rowids: list[int],
    subjects: dict[int, tuple[Any, ...]],
    before: tuple[Any, ...] = (),
) -> tuple[Any, ...]:
    """The rows of a trial in blocks of one kind. Of rows with one key the last counts, at the place of the first."""
    out = list(before)
    met: set[int] = {r.step for r in before}
    again = False
    for rowid in rowids:
        step, *cells = connection.execute(
            "SELECT step, who, figures, missing, finite FROM blocks WHERE rowid = ?", (rowid,)
        ).fetchone()
        block = Block(*cells)
        # Comparing keys costs more than reading the rows, so it is done only where a key can occur twice.
        again = again or step in met or len(set(memoryview(block.who).cast("I"))) < len(block.finite)
        met.add(step)
        out += unpack(KINDS[kind], step, block, subjects)
    if again:
        out = list({_key(r): r for r in out}.values())
    return tuple(out)


def _key(row: Any) -> tuple[Any, ...]:
    return (row.step, row.micro, row.skip) if isinstance(row, SkipRow) else (row.step, row.layer)
