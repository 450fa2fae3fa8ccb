"""Writes a run file step by step, so that a killed run keeps all it had committed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from skipgrad.core import ChangeRow, Cure, Finding, LayerRow, LossPoint, OutputError, PathRow, SkipGraph, SkipRow, Trial
from skipgrad.core.files import unwritable
from skipgrad.store import schema
from skipgrad.store.blocks import BlockWriter
from skipgrad.store.cells import cell, dumps
from skipgrad.store.pack import LAYERS, SKIPS


class RunWriter:
    """Writes one run file; made by `create` or `append`, used as a context manager.

    Records are only ever added; a later one supersedes an earlier one of the same key (trials by id, findings by
    code, cures by remedy, rows by trial, step and name, path spectra by trial and step). What was added is on disk, and
    visible to readers, after `commit`. On leaving the ``with`` block, by an exception too, everything is committed and
    the file is closed; the run's state is the caller's to mark (``writer.meta(state="interrupted")``).
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, doing: str) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = connection
        self._doing = doing
        self._blocks = BlockWriter()

    @classmethod
    def create(cls, path: str | Path, meta: dict[str, Any] | None = None) -> RunWriter:
        """A new run file.

        Args:
            path: where; its folder is made when missing.
            meta: what is run (`Run.meta`); more can be added by `meta`.

        Raises:
            OutputError: the file exists already, or cannot be written.
        """
        path = Path(path)
        doing = "creating a run file"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Reserves the name: of two runs that start at the same moment, one gets the error.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        except FileExistsError as error:
            raise OutputError(
                doing,
                where=str(path),
                received="there is something of that name already (nothing was overwritten)",
                todo="pass another path, or remove it",
            ) from error
        except OSError as error:
            raise unwritable(path, error, doing=doing) from error
        writer = cls(path, _connect(path, doing), doing)
        writer._try(writer._lay_out)
        writer.meta(**(meta or {})).commit()
        return writer

    @classmethod
    def append(cls, path: str | Path) -> RunWriter:
        """An existing run file, to go on with.

        Raises:
            RunFileError: no run file, a damaged one or one of a newer schema.
            OutputError: it cannot be written.
        """
        path = Path(path)
        doing = "opening a run file to go on with it"
        schema.look_at(path, doing)
        try:
            connection = _connect(path, doing)
        except OutputError as error:
            if isinstance(error.__cause__, sqlite3.OperationalError):
                raise
            raise schema.damaged(path, doing, error.__cause__) from error
        try:
            schema.recognise(connection, path, doing)
            schema.upgrade(connection)
        except sqlite3.OperationalError as error:
            connection.close()
            raise _refused(path, doing, error) from error
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, doing)

    def meta(self, **values: Any) -> RunWriter:
        """Sets entries of `Run.meta`; values must be plain data."""
        return self._many("meta", ("key", "value"), [(key, dumps(value)) for key, value in values.items()])

    def graph(self, graph: SkipGraph, trial: int | None = None) -> RunWriter:
        """The patient's skips, or those of the cured model of one trial."""
        return self._many("graphs", ("trial", "graph"), [(trial, graph.to_json(indent=None))])

    def trial(self, trial: Trial) -> RunWriter:
        """A trial, or its later state."""
        return self._many("trials", ("id", "trial"), [(trial.id, dumps(asdict(trial)))])

    def losses(self, points: Iterable[LossPoint]) -> RunWriter:
        """Training losses."""
        rows = [(p.trial, p.step, cell(p.loss), cell(p.seconds)) for p in points]
        return self._many("losses", ("trial", "step", "loss", "seconds"), rows)

    def skip_rows(self, trial_id: int, rows: Iterable[SkipRow]) -> RunWriter:
        """Ledger rows of one trial; of a long one not all steps stay (`skipgrad.store.schedule`)."""
        self._blocks.add(trial_id, SKIPS, tuple(rows))
        return self

    def layer_rows(self, trial_id: int, rows: Iterable[LayerRow]) -> RunWriter:
        """Layer rows of one trial; they stay with the skip rows of their step."""
        self._blocks.add(trial_id, LAYERS, tuple(rows))
        return self

    def paths(self, trial_id: int, rows: Iterable[PathRow]) -> RunWriter:
        """The gradient by path length of one trial; a later row supersedes an earlier one of its step."""
        cells = [(trial_id, row.step, dumps(row.to_dict())) for row in rows]
        return self._many("paths", ("trial", "step", "row"), cells)

    def changes(self, trial_id: int, rows: Iterable[ChangeRow]) -> RunWriter:
        """What steps of one trial changed of the branches; a later row supersedes an earlier one of its step."""
        cells = [(trial_id, row.step, dumps(row.to_dict())) for row in rows]
        return self._many("changes", ("trial", "step", "row"), cells)

    def findings(self, findings: Iterable[Finding]) -> RunWriter:
        """What was diagnosed."""
        return self._many("findings", ("code", "finding"), [(cell(f.code), dumps(asdict(f))) for f in findings])

    def cures(self, cures: Iterable[Cure]) -> RunWriter:
        """What the remedies did."""
        return self._many("cures", ("remedy", "cure"), [(cell(c.remedy), dumps(asdict(c))) for c in cures])

    def note(self, text: str) -> RunWriter:
        """Something that was not understood or left out."""
        return self._many("notes", ("note",), [(cell(text),)])

    def commit(self) -> RunWriter:
        """Makes everything added so far safe against a kill, and visible to readers."""
        self._try(self._blocks.flush)
        self._try(lambda connection: connection.commit())
        return self

    def close(self) -> None:
        """Commits, folds the write-ahead log into the file and closes it; a second call does nothing."""
        if self._connection is None:
            return
        try:
            self.commit()
            # A reader in the middle of its reading holds the log: it then stays, and the next opening folds it in.
            with suppress(sqlite3.OperationalError):
                self._connection.execute("PRAGMA busy_timeout = 500")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._connection.execute("PRAGMA journal_mode = DELETE")
        finally:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            with suppress(OutputError):  # the first error is the one to tell
                self.close()

    def _lay_out(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.SCHEMA}")
        for statement in schema.TABLES:
            connection.execute(statement)
        connection.commit()

    def _many(self, table: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> RunWriter:
        self._try(lambda connection: connection.executemany(schema.insert(table, columns), rows))
        return self

    def _try(self, action: Callable[[sqlite3.Connection], Any]) -> None:
        assert self._connection is not None, "the run file is closed"
        try:
            action(self._connection)
        except sqlite3.OperationalError as error:
            raise _refused(self.path, self._doing, error) from error


def _connect(path: Path, doing: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10.0)
    try:
        # The log lets readers in while we write, and survives a kill; NORMAL syncs at checkpoints only, so that a
        # commit costs microseconds. A power cut may then lose the last commits, but never the file.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _refused(path, doing, error) from error
    return connection


def _refused(path: Path, doing: str, error: sqlite3.Error) -> OutputError:
    locked = "locked" in str(error)
    return OutputError(
        doing,
        where=str(path),
        received=f"{type(error).__name__}: {error}",
        todo="another process is writing this file; let it end, or write another one"
        if locked
        else "free some space or pass a path that can be written",
    )
