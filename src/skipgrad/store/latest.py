"""Reads only the newest step of a run file, in a time that does not grow with the file; for live views."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipgrad.core import LayerRow, LossPoint, SkipRow, Trial
from skipgrad.store import schema
from skipgrad.store.block_rows import read_subjects, rows_in
from skipgrad.store.cells import figure
from skipgrad.store.pack import LAYERS, SKIPS, Kind
from skipgrad.store.reader import layers_by_trial, read_meta, read_trials, skips_by_trial, snapshot

MOST_LOSSES = 512  # a curve of a terminal's width is drawn of them
RECENT = 32  # losses at the end that are given without a gap: the pace is taken from them


@dataclass(frozen=True)
class Latest:
    """A run at one moment, without its past.

    Attributes:
        meta: as `Run.meta`.
        trials: in order of their start.
        current: the trial that is training, or was the last to; None before the first.
        losses: the losses of that trial, in order of step. When there are more than 512, evenly spaced ones are given,
            with the first and the last.
        all_losses: whether `losses` has all losses of that trial.
        recent: the last 32 losses of that trial, without a gap.
        measured: the last trial that has rows; None before the first row.
        skips: the skip rows of the last step of `measured` that has any.
        layers: the layer rows of the last step of `measured` that has any.
    """

    meta: dict[str, Any]
    trials: tuple[Trial, ...] = ()
    current: Trial | None = None
    losses: tuple[LossPoint, ...] = ()
    all_losses: bool = True
    recent: tuple[LossPoint, ...] = ()
    measured: Trial | None = None
    skips: tuple[SkipRow, ...] = ()
    layers: tuple[LayerRow, ...] = ()


def read_latest(path: str | Path) -> Latest:
    """Reads what was committed last, and as many losses as a curve needs.

    It reads two blocks of rows and some hundred losses, however long the run. (Of files that an earlier version wrote,
    which have no index of the losses, it reads all losses.)

    Args:
        path: the run file; another process may be writing it.

    Raises:
        RunFileError: as `read_run`.
    """
    with snapshot(Path(path)) as connection:
        tables = schema.tables(connection)
        trials = read_trials(connection)
        # Trials are made one after the other, or in turns; each is written down when it starts.
        measured = next((t for t in reversed(trials) if _has_rows(connection, tables, t.id)), None)
        current = next((t for t in reversed(trials) if t.state == "running"), None) or _last_to_train(
            connection, trials
        )
        current = current or measured or (trials[-1] if trials else None)
        losses, all_losses, recent = _losses(connection, current.id) if current is not None else ((), True, ())
        skips = layers = ()
        if measured is not None:
            skips = _newest(connection, tables, measured.id, SKIPS)
            layers = _newest(connection, tables, measured.id, LAYERS)
        return Latest(read_meta(connection), trials, current, losses, all_losses, recent, measured, skips, layers)


def _last_to_train(connection: sqlite3.Connection, trials: tuple[Trial, ...]) -> Trial | None:
    last = connection.execute("SELECT trial FROM losses ORDER BY rowid DESC LIMIT 1").fetchone()
    return next((t for t in trials if last is not None and t.id == last[0]), None)


def _losses(connection: sqlite3.Connection, trial: int) -> tuple[tuple[LossPoint, ...], bool, tuple[LossPoint, ...]]:
    """Losses by step (of a step written twice the later one); whether these are all; and the last ones, all of them."""
    columns = "SELECT step, loss, seconds FROM losses WHERE trial = :trial"
    first = connection.execute(
        f"{columns} ORDER BY step, rowid LIMIT :most", {"trial": trial, "most": MOST_LOSSES + 1}
    ).fetchall()
    if len(first) <= MOST_LOSSES:
        points = _points(trial, first)
        return points, True, points[-RECENT:]
    newest_first = f"{columns} ORDER BY step DESC, rowid DESC LIMIT :most"
    recent = connection.execute(newest_first, {"trial": trial, "most": RECENT}).fetchall()[::-1]
    begin, end = first[0][0], recent[-1][0]
    stride = 1
    while (end - begin) // stride >= MOST_LOSSES:
        stride *= 2  # doubled, so that a later look finds half of the same losses, and a curve does not jump
    next_from = f"{columns} AND step = (SELECT min(step) FROM losses WHERE trial = :trial AND step >= :step)"
    spaced = [
        connection.execute(f"{next_from} ORDER BY rowid DESC LIMIT 1", {"trial": trial, "step": step}).fetchone()
        for step in range(begin, end, stride)
    ]
    return _points(trial, [*spaced, recent[-1]]), False, _points(trial, recent)


def _points(trial: int, rows: list[tuple[int, Any, Any]]) -> tuple[LossPoint, ...]:
    last = {step: (loss, seconds) for step, loss, seconds in rows}
    return tuple(LossPoint(trial, step, figure(loss), figure(seconds)) for step, (loss, seconds) in last.items())


def _has_rows(connection: sqlite3.Connection, tables: set[str], trial: int) -> bool:
    names = [t for t in ("blocks", "skip_rows", "layer_rows") if t in tables]
    return any(connection.execute(f"SELECT 1 FROM {t} WHERE trial = ? LIMIT 1", (trial,)).fetchone() for t in names)


def _newest(connection: sqlite3.Connection, tables: set[str], trial: int, kind: Kind) -> tuple[Any, ...]:
    """The rows of one kind in the last step that has any."""
    if "blocks" in tables:
        last = connection.execute(
            "SELECT step FROM blocks WHERE trial = ? AND kind = ? AND why <> ? ORDER BY step DESC LIMIT 1",
            (trial, kind.name, schema.WITNESS),
        ).fetchone()
        if last is not None:
            found = connection.execute(
                "SELECT rowid FROM blocks WHERE trial = ? AND step = ? AND kind = ? ORDER BY rowid",
                (trial, last[0], kind.name),
            ).fetchall()
            return rows_in(connection, kind.name, [rowid for (rowid,) in found], read_subjects(connection))
    if "skip_rows" not in tables:
        return ()
    # Schema 1: a table a kind, without an index.
    table, columns, by_trial = {
        SKIPS.name: ("skip_rows", schema.SKIP_COLUMNS, skips_by_trial),
        LAYERS.name: ("layer_rows", schema.LAYER_COLUMNS, layers_by_trial),
    }[kind.name]
    newest = f"SELECT max(step) FROM {table} WHERE trial = :trial"
    cursor = connection.execute(
        f"SELECT trial, {', '.join(columns)} FROM {table} WHERE trial = :trial AND step = ({newest}) ORDER BY rowid",
        {"trial": trial},
    )
    return by_trial(cursor).get(trial, ())
