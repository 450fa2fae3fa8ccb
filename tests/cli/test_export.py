"""`skipgrad export`: a run in another tool's format, read back by that tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import polars
import pytest

from skipgrad.core import LayerRow, LossPoint, SkipRow, Trial
from skipgrad.store import RunWriter


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of these libraries leaves the machine or the test's folder; what export sets is put back."""
    for name in ("WANDB_MODE", "WANDB_ERROR_REPORTING", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """Two trials; the patient's is measured."""
    path = tmp_path / "run" / "run.sqlite"
    with RunWriter.create(path, {"model": "net", "state": "done"}) as writer:
        for id, remedy in ((0, None), (1, "zero-init")):
            writer.trial(Trial(id, remedy, 0.1, 0, 3, measured=remedy is None, state="done"))
            writer.losses([LossPoint(id, s, 2.0 + id - 0.5 * s, 0.1 * s) for s in range(3)])
        for s in range(3):
            writer.skip_rows(0, [SkipRow(s, 0, "block", 3.0 + s, 4.0, 5.0, 1.0, 0.0, 5.0, 1.0, 1.0, 0.0)])
            writer.layer_rows(0, [LayerRow(s, "fc", 0, 0.5, 1.0, 0.1, 0.01, 0.0)]).commit()
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables(cli: Any, run_file: Path, tmp_path: Path, kind: str) -> None:
    done = cli("export", run_file.parent, "--to", kind, "--out", tmp_path / "out")
    assert (done.status, done.err) == (0, "")
    assert "3 skip rows, 3 layer rows, 3 losses" in done.out
    read = polars.read_csv if kind == "csv" else polars.read_parquet
    assert read(tmp_path / "out" / f"skips.{kind}")["skip_norm"].to_list() == [3.0, 4.0, 5.0]
    assert read(tmp_path / "out" / f"losses.{kind}")["loss"].to_list() == [2.0, 1.5, 1.0]
    again = cli("export", run_file, "--to", kind, "--out", tmp_path / "out")
    assert (again.status, again.out) == (1, "")
    assert "nothing was overwritten" in again.err


def test_another_trial_as_json(cli: Any, run_file: Path, tmp_path: Path) -> None:
    done = cli("export", run_file, "--to", "csv", "--out", tmp_path / "out", "--trial", 1, "--json")
    told = json.loads(done.out)
    assert (told["trial"], told["skips"], told["layers"], told["losses"]) == (1, 0, 0, 3)
    assert polars.read_csv(tmp_path / "out" / "losses.csv")["loss"].to_list() == [3.0, 2.5, 2.0]


def test_tensorboard(cli: Any, run_file: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tensorboard warns about is its own affair
        done = cli("export", run_file, "--to", "tensorboard", "--out", tmp_path / "tb")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    assert (done.status, done.err) == (0, "")
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [e.step for e in events.Tensors("skip.skip_norm/block")] == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_trackers_in_a_process_of_their_own(run_file: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "skipgrad", "export", str(run_file), "--to", kind, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(out))
    made = {p.name for p in tmp_path.iterdir()} - {
        "run",
        "out",
        "WANDB_CONFIG_DIR",
        "WANDB_CACHE_DIR",
        "WANDB_DATA_DIR",
    }
    assert not made  # nothing beside what was asked for
    if kind == "wandb":
        (log,) = out.glob("wandb/offline-run-*/*.wandb")
        assert b"skip.skip_norm/block" in log.read_bytes()
    else:
        import sqlite3

        connection = sqlite3.connect(out / "mlflow.db")
        rows = connection.execute("SELECT step, value FROM metrics WHERE key = 'skip.skip_norm/block' ORDER BY step")
        assert rows.fetchall() == [(0, 3.0), (1, 4.0), (2, 5.0)]
        connection.close()


def test_an_unknown_kind(cli: Any, run_file: Path, tmp_path: Path) -> None:
    done = cli("export", run_file, "--to", "tensorbord", "--out", tmp_path / "out")
    assert (done.status, done.out) == (1, "")
    assert "did you mean tensorboard?" in done.err


def test_an_unknown_trial(cli: Any, run_file: Path, tmp_path: Path) -> None:
    done = cli("export", run_file, "--to", "csv", "--out", tmp_path / "out", "--trial", 7)
    assert done.status == 1
    assert "1 (zero-init, seed 0)" in done.err
    assert not (tmp_path / "out").exists()


def test_a_run_without_rows(cli: Any, tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run.sqlite", {"model": "net", "state": "failed"}):
        pass
    done = cli("export", tmp_path / "run.sqlite", "--to", "csv", "--out", tmp_path / "out")
    assert (done.status, done.out) == (1, "")
    assert "without a row" in done.err


def test_help(cli: Any, snapshot: Any) -> None:
    done = cli("export", "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out == snapshot
