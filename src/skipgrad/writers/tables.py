"""``csv``, ``parquet``: a table each of skips, layers and losses, with the records' field names as columns."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, fields
from pathlib import Path
from typing import IO, Any

import polars

from skipgrad.core.errors import OutputError
from skipgrad.core.run import LayerRow, LossPoint, SkipRow
from skipgrad.writers.base import RowWriter
from skipgrad.writers.registry import WRITERS, WriterEntry

_TYPES = {"int": polars.Int64, "float": polars.Float64, "str": polars.String, "bool": polars.Boolean}
RECORDS: dict[str, type[Any]] = {"skips": SkipRow, "layers": LayerRow, "losses": LossPoint}


def schema(record: type[Any]) -> dict[str, Any]:
    """Columns and types of a record's table; a figure that was not measured is null."""
    return {f.name: _TYPES[str(f.type).removesuffix(" | None")] for f in fields(record)}


def frame(record: type[Any], rows: Sequence[Any]) -> polars.DataFrame:
    """Records as a frame."""
    return polars.DataFrame([astuple(r) for r in rows], schema=schema(record), orient="row")


class _Tables(RowWriter):
    suffix = ""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self.paths = {name: self.out / f"{name}.{self.suffix}" for name in RECORDS}
        for path in self.paths.values():
            if path.exists():
                raise OutputError(
                    f"writing {self.suffix} tables",
                    where=str(path),
                    received="there is something of that name already (nothing was overwritten)",
                    todo="pass another folder, or remove it",
                )

    def write(
        self, step: int, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]
    ) -> None:
        self(skips, layers, losses)

    def __call__(self, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]) -> None:
        # A row says its step itself, so that all steps can be written at once.
        try:
            self._add({"skips": skips, "layers": layers, "losses": losses})
        except OSError as error:
            raise self._unwritable(error) from error

    @abstractmethod
    def _add(self, rows: dict[str, Sequence[Any]]) -> None: ...

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"writing {self.suffix} tables",
            where=str(self.out),
            received=f"{type(error).__name__}: {error.strerror or error}",
            todo="free some space, or pass a folder that can be written",
        )


class CsvWriter(_Tables):
    """Appends to ``skips.csv``, ``layers.csv`` and ``losses.csv``, step by step.

    Every float survives, NaN and infinities too; a figure that was not measured is an empty field.

    Args:
        out: the folder; made when missing. None of the files may exist.
    """

    suffix = "csv"

    def __init__(self, out: str | Path) -> None:
        super().__init__(out)
        self._files: dict[str, IO[bytes]] = {}
        self._stack = ExitStack()

    def _add(self, rows: dict[str, Sequence[Any]]) -> None:
        if not self._files:
            self.out.mkdir(parents=True, exist_ok=True)
            for name, record in RECORDS.items():
                self._files[name] = self._stack.enter_context(self.paths[name].open("xb"))
                self._files[name].write(frame(record, ()).write_csv().encode())
        for name, new in rows.items():
            if new:
                self._files[name].write(frame(RECORDS[name], new).write_csv(include_header=False).encode())
            self._files[name].flush()  # a killed run keeps its rows

    def close(self) -> None:
        """Closes the files."""
        try:
            self._stack.close()
        except OSError as error:
            raise self._unwritable(error) from error


class ParquetWriter(_Tables):
    """Writes ``skips.parquet``, ``layers.parquet`` and ``losses.parquet`` when it is closed, not before.

    A Parquet file cannot be appended to: a killed run leaves none. (Its run file has the rows; ``skipgrad export``
    makes tables of it.)

    Args:
        out: the folder; made when missing. None of the files may exist.
    """

    suffix = "parquet"

    def __init__(self, out: str | Path) -> None:
        super().__init__(out)
        self._rows: dict[str, list[Any]] = {}

    def _add(self, rows: dict[str, Sequence[Any]]) -> None:
        for name, new in rows.items():
            self._rows.setdefault(name, []).extend(new)

    def close(self) -> None:
        """Writes the tables, each whole or not at all."""
        try:
            for name, rows in self._rows.items():
                self.out.mkdir(parents=True, exist_ok=True)
                half = self.paths[name].with_suffix(".part")
                frame(RECORDS[name], rows).write_parquet(half)
                os.replace(half, self.paths[name])
        except OSError as error:
            raise self._unwritable(error) from error
        self._rows.clear()


WRITERS.register("csv", WriterEntry(CsvWriter))
WRITERS.register("parquet", WriterEntry(ParquetWriter))
