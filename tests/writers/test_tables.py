"""CSV and Parquet, read back by polars."""

from __future__ import annotations

import math
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import polars
import pytest

from skipgrad.core import LayerRow, LossPoint, OutputError, SkipRow
from skipgrad.writers import CsvWriter, ParquetWriter
from skipgrad.writers.tables import schema

KINDS = {"skips": SkipRow, "layers": LayerRow, "losses": LossPoint}


def same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> bool:
    """Equal, NaN being equal to NaN and None to nothing but None."""

    def spelt(cell: Any) -> Any:
        return "nan" if isinstance(cell, float) and math.isnan(cell) else cell

    return [tuple(map(spelt, row)) for row in found] == [tuple(map(spelt, row)) for row in expected]


def read_csv(path: Path, record: Any) -> polars.DataFrame:
    return polars.read_csv(path, schema=schema(record))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_row_reads_back_as_it_was(rows: Any, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    with (CsvWriter if kind == "csv" else ParquetWriter)(out) as writer:
        # As a ledger does it: step by step, a loss late.
        writer([r for r in rows.skips if r.step == 0], rows.layers[:1], [])
        writer([r for r in rows.skips if r.step == 1], rows.layers[1:], rows.losses[:1])
        writer([], [], rows.losses[1:])
    for name, record in KINDS.items():
        path = out / f"{name}.{kind}"
        frame = read_csv(path, record) if kind == "csv" else polars.read_parquet(path)
        assert frame.columns == [f.name for f in fields(record)]
        assert dict(frame.schema) == schema(record)
        assert same(frame.rows(), [astuple(r) for r in getattr(rows, name)]), name


def test_csv_of_a_run_that_is_killed_has_the_rows_so_far(rows: Any, tmp_path: Path) -> None:
    writer = CsvWriter(tmp_path / "out")
    writer(rows.skips[:3], [], [])
    assert len(read_csv(tmp_path / "out" / "skips.csv", SkipRow)) == 3
    assert read_csv(tmp_path / "out" / "layers.csv", LayerRow).columns == [f.name for f in fields(LayerRow)]
    writer.close()
    writer.close()


def test_nothing_is_made_before_the_first_row(tmp_path: Path) -> None:
    for kind in (CsvWriter, ParquetWriter):
        with kind(tmp_path / "out"):
            pass
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [CsvWriter, ParquetWriter])
def test_what_is_there_is_not_overwritten(rows: Any, tmp_path: Path, kind: Any) -> None:
    with kind(tmp_path) as writer:
        writer(rows.skips, rows.layers, rows.losses)
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(OutputError, match="nothing was overwritten"):
        kind(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("kind", [CsvWriter, ParquetWriter])
def test_a_folder_that_cannot_be_written(rows: Any, tmp_path: Path, kind: Any) -> None:
    (tmp_path / "file").write_text("")

    def write() -> None:
        with kind(tmp_path / "file" / "out") as writer:
            writer(rows.skips, [], [])

    with pytest.raises(OutputError, match="folder that can be written"):
        write()
