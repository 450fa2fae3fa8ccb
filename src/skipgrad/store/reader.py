"""Reads a run file, also while it is being written, and after its writer was killed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from skipgrad.core import (
    BadInput,
    ChangeRow,
    Cure,
    Finding,
    LayerRow,
    LossPoint,
    PathRow,
    PathSpectrum,
    Run,
    RunFileError,
    SkipGraph,
    SkipRow,
    Trial,
)
from skipgrad.store import schema
from skipgrad.store.block_rows import BlockRows, read_blocks
from skipgrad.store.cells import NAN, figure, loads

_DOING = "reading a run file"
_RowT = TypeVar("_RowT", SkipRow, LayerRow)


def read_run(path: str | Path, *, all_kept: bool = False) -> Run:
    """The run in a file: what was committed at this moment.

    Where a trial was too long to be kept whole, the rows of evenly spaced steps are given, with the first step, the
    last step and those with figures that are not finite; `Run.thinned` then says so (`skipgrad.store.schedule`).

    Args:
        path: the file.
        all_kept: gives every row in the file; of a long trial the first steps are kept more densely than later ones.

    Raises:
        RunFileError: a missing file, one that is no run file, a newer schema, a truncated or damaged file.
    """
    path = Path(path)
    with snapshot(path) as connection:
        return _read(connection, path, all_kept)


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """A run file as it is at this moment, whatever a writer commits meanwhile.

    Raises:
        RunFileError: as `read_run`; whatever goes wrong inside the ``with`` block is taken for damage of the file.
    """
    schema.look_at(path, _DOING)
    connection = None
    try:
        connection = _open(path)
        connection.execute("BEGIN")  # one snapshot for all tables
        schema.recognise(connection, path, _DOING)
        yield connection
    except (sqlite3.DatabaseError, BadInput, ValueError, TypeError, KeyError) as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise RunFileError(
                _DOING, where=str(path), received=f"{error}", todo="another process holds the file; try again shortly"
            ) from error
        what = error.received if isinstance(error, BadInput) else error
        raise schema.damaged(path, _DOING, what) from error
    finally:
        if connection is not None:
            connection.close()


def _open(path: Path) -> sqlite3.Connection:
    """A read-only connection: a report must not change what it reports."""
    address = f"file:{quote(str(path.resolve()))}"
    connection = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=10.0)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        if not isinstance(error, sqlite3.OperationalError) or path.with_name(path.name + "-wal").exists():
            raise
        # A file of a killed run that was copied without its log to a place where none can be made.
        connection = sqlite3.connect(f"{address}?immutable=1", uri=True)
    return connection


def _read(connection: sqlite3.Connection, path: Path, all_kept: bool) -> Run:
    def rows(table: str, *columns: str) -> sqlite3.Cursor:
        return connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid")

    graphs = {trial: SkipGraph.from_json(text) for trial, text in dict(rows("graphs", "trial", "graph")).items()}
    patient = graphs.pop(None, None)
    losses = {
        (trial, step): LossPoint(trial, step, figure(loss), figure(seconds))
        for trial, step, loss, seconds in rows("losses", "trial", "step", "loss", "seconds")
    }
    tables = schema.tables(connection)
    old: dict[str, dict[int, tuple[Any, ...]]] = {"skips": {}, "layers": {}}
    if "skip_rows" in tables:  # schema 1
        old = {
            "skips": skips_by_trial(rows("skip_rows", "trial", *schema.SKIP_COLUMNS)),
            "layers": layers_by_trial(rows("layer_rows", "trial", *schema.LAYER_COLUMNS)),
        }
    blocks = (
        read_blocks(connection, old, all_kept) if "blocks" in tables else BlockRows(old["skips"], old["layers"], {})
    )
    return Run(
        meta=read_meta(connection),
        graph=patient,
        trials=read_trials(connection),
        losses=tuple(losses.values()),
        skip_rows=blocks.skips,
        layer_rows=blocks.layers,
        paths=_paths(rows("paths", "trial", "step", "row")) if "paths" in tables else {},
        changes=_changes(rows("changes", "trial", "step", "row")) if "changes" in tables else {},
        findings=tuple(
            sorted(
                (_finding(text) for text in dict(rows("findings", "code", "finding")).values()), key=lambda f: f.code
            )
        ),
        cures=tuple(_cure(text) for text in dict(rows("cures", "remedy", "cure")).values()),
        graphs=graphs,
        notes=tuple(dict.fromkeys(note for (note,) in rows("notes", "note"))),
        thinned=blocks.thinned,
        path=str(path),
    )


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """What was run, as it was said last."""
    return {key: loads(value) for key, value in connection.execute("SELECT key, value FROM meta ORDER BY rowid")}


def read_trials(connection: sqlite3.Connection) -> tuple[Trial, ...]:
    """The trials in order of their start, each in its last state."""
    texts = dict(connection.execute("SELECT id, trial FROM trials ORDER BY rowid"))
    return tuple(Trial(**loads(text)) for text in texts.values())


def skips_by_trial(cursor: sqlite3.Cursor) -> dict[int, tuple[SkipRow, ...]]:
    """Skip rows of schema 1."""
    return _by_trial(cursor, SkipRow, lambda cells: cells[:3])


def layers_by_trial(cursor: sqlite3.Cursor) -> dict[int, tuple[LayerRow, ...]]:
    """Layer rows of schema 1."""
    return _by_trial(cursor, LayerRow, lambda cells: cells[:2])


def _by_trial(
    cursor: sqlite3.Cursor, record: type[_RowT], key: Callable[[tuple[Any, ...]], tuple[Any, ...]]
) -> dict[int, tuple[_RowT, ...]]:
    """Records by trial; of several with one key the last counts, at the place of the first."""
    kept: dict[int, dict[tuple[Any, ...], tuple[Any, ...]]] = {}
    for trial, *cells in cursor:
        kept.setdefault(trial, {})[key(tuple(cells))] = tuple(cells)
    return {trial: tuple(_row(record, cells) for cells in rows.values()) for trial, rows in kept.items()}


def _row(record: type[_RowT], cells: tuple[Any, ...]) -> _RowT:
    if NAN in cells:  # rare; names are left alone, a layer may be called "nan"
        cells = tuple(figure(c) if "float" in str(f.type) else c for f, c in zip(fields(record), cells, strict=True))
    return record(*cells[:-1], finite=bool(cells[-1]))


def _paths(cursor: sqlite3.Cursor) -> dict[int, tuple[PathRow, ...]]:
    kept: dict[int, dict[int, PathRow]] = {}
    for trial, step, text in cursor:
        data = loads(text)
        told = data["spectrum"]
        spectrum = None if told is None else PathSpectrum.from_dict(told)
        kept.setdefault(trial, {})[step] = PathRow(step, spectrum, data["reason"])
    return {trial: tuple(rows[step] for step in sorted(rows)) for trial, rows in kept.items()}


def _changes(cursor: sqlite3.Cursor) -> dict[int, tuple[ChangeRow, ...]]:
    kept: dict[int, dict[int, ChangeRow]] = {}
    for trial, step, text in cursor:
        kept.setdefault(trial, {})[step] = ChangeRow(**loads(text))
    return {trial: tuple(rows[step] for step in sorted(rows)) for trial, rows in kept.items()}


def _finding(text: str) -> Finding:
    data = loads(text)
    return Finding(**{**data, "where": tuple(data["where"]), "remedies": tuple(data["remedies"])})


def _cure(text: str) -> Cure:
    data = loads(text)
    for name in ("steps_spread", "seconds_spread"):
        data[name] = None if data[name] is None else tuple(data[name])
    return Cure(**data)
