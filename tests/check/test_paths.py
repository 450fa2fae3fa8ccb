"""A check tells how long the gradient's paths are before the first step and after the last."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

import skipgrad as sg
from skipgrad.check import CheckOptions, check
from skipgrad.core import MeasureError
from skipgrad.models import fit
from skipgrad.report import parts


def run(out: Path, model: str = "skipgrad:resnet8") -> sg.Run:
    return check(CheckOptions(model=model, data="digits", out=out, steps=2, batch_size=8, attempt=False)).run


def test_lengths_before_and_after(tmp_path: Path) -> None:
    told = run(tmp_path / "a")
    paths = told.meta["paths"]
    assert set(paths) == {"at", "branches", "first", "last"}
    assert (paths["at"], paths["branches"]) == ("stage1.0", 3)
    torch.manual_seed(0)
    workload = fit("skipgrad:resnet8", {}, "digits", batch_size=8)
    model, batch = workload.build(), workload.example
    spectrum = sg.path_spectrum(
        model, sg.find(model, *batch.args), batch.args, lambda out: workload.loss(out, batch), max_length=0
    )
    assert paths["first"] == pytest.approx(spectrum.mean_length, rel=1e-4)
    assert paths["first"] != paths["last"]
    assert "of 3 branches" in parts(told).paths


def test_measuring_them_leaves_the_training_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_paths = run(tmp_path / "a")

    def refuses(*_: object, **__: object) -> None:
        raise MeasureError("measuring", received="something odd")

    monkeypatch.setattr(importlib.import_module("skipgrad.check.check"), "path_spectrum", refuses)
    without = run(tmp_path / "b")
    assert [p.loss for p in with_paths.losses] == [p.loss for p in without.losses]
    assert "paths" not in without.meta
    assert sum("something odd" in n for n in without.notes) == 2


def test_a_net_without_skips_has_none(tmp_path: Path) -> None:
    assert "paths" not in run(tmp_path / "a", "skipgrad:plain8").meta
