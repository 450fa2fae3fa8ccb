"""Rows with everything in them that a format could lose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from skipgrad.core import LayerRow, LossPoint, Run, SkipGraph, SkipRow, Trial


@dataclass(frozen=True)
class Rows:
    """Two steps, the first with two backwards; the second's loss is known late."""

    skips: tuple[SkipRow, ...]
    layers: tuple[LayerRow, ...]
    losses: tuple[LossPoint, ...]


@pytest.fixture
def rows() -> Rows:
    names = ("layer1.0", 'odd "name", with\nall#2', "")
    skips = tuple(
        SkipRow(step, micro, name, 0.1 + step + micro, 1e-60, 3.0, 4.0, -0.5, 1 / 3, 2.0, 5.0, 1e-17)
        for step, micros in ((0, 2), (1, 1))
        for micro in range(micros)
        for name in names
    )
    broken = SkipRow(1, 0, "broken", math.nan, math.inf, -math.inf, 0.0, 0.0, 1e300, 1.0, 1.0, 0.0, finite=False)
    layers = (
        LayerRow(0, "fc", 0, 0.25, 2.0, 0.1, 0.01, 0.0, 0.5, 12, "float32"),
        LayerRow(1, "fc", 0, 0.125, math.nan, None, None, None, None, 12, "bfloat16", finite=False),
    )
    return Rows((*skips, broken), layers, (LossPoint(0, 0, 2.5, 0.1), LossPoint(0, 1, math.nan, 0.2)))


@pytest.fixture
def run(rows: Rows) -> Run:
    """The same as a finished run, with a cure's trial beside the patient's."""
    return Run(
        {"model": "file.py:net", "seed": 3, "state": "done", "versions": {"torch": "2.15"}},
        SkipGraph(()),
        (Trial(0, None, 0.1, 3, 2, measured=True, state="done"), Trial(1, "zero-init", 0.1, 3, 2, state="done")),
        (*rows.losses, LossPoint(1, 0, 1.5, 0.1)),
        {0: rows.skips},
        {0: rows.layers},
        path="run.sqlite",
    )


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of these libraries leaves the machine or the test's folder."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
