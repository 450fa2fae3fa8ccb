"""A check measures the gradient by path length before the first step and after the last, of patient and cured net."""

from __future__ import annotations

import importlib
import json
import textwrap
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

import skipgrad as sg
from recipes import options
from repeatable import same_bits
from skipgrad.check import CheckResult, check
from skipgrad.core import Finding, MeasureError
from skipgrad.models import fit
from skipgrad.report import parts

PATHS = importlib.import_module("skipgrad.check.paths")


def run(out: Path, model: str = "skipgrad:resnet8", **given: Any) -> CheckResult:
    values: dict[str, Any] = {"data": "digits", "steps": 2, "batch_size": 8, "attempt": False, **given}
    return check(options(model, out=out, **values))


def finding(told: sg.Run) -> Finding:
    return next(f for f in told.findings if f.code == "SG011")


def test_spectra_before_and_after(tmp_path: Path) -> None:
    told = run(tmp_path / "a").run
    before, after = told.paths[0]
    assert (before.step, after.step) == (0, 2)
    torch.manual_seed(0)
    workload = fit("skipgrad:resnet8", {}, "digits", batch_size=8)
    model, batch = workload.build(), workload.example
    spectrum = sg.path_spectrum(model, sg.find(model, *batch.args), batch.args, lambda out: workload.loss(out, batch))
    assert before.spectrum is not None
    assert before.spectrum.shares == pytest.approx(spectrum.shares, rel=1e-4)
    assert before.spectrum.lengths == (0, 1, 2, 3)
    assert after.spectrum is not None
    assert after.spectrum.mean_length != before.spectrum.mean_length
    assert "of 3 branches before" in parts(told).paths.sentence


@pytest.mark.slow
def test_measuring_them_leaves_the_training_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise MeasureError("measuring", received="something odd")

    told: dict[bool, sg.Run] = {}

    def losses(measured: bool) -> list[float]:
        with monkeypatch.context() as patch:
            if not measured:
                patch.setattr(PATHS, "path_spectrum", refuses)
            told[measured] = run(Path(mkdtemp(dir=tmp_path)), "skipgrad:resnet20").run
        return [p.loss for p in told[measured].losses]

    same_bits("resnet20", losses)
    with_paths, without = told[True], told[False]
    assert with_paths.skip_rows == without.skip_rows
    assert with_paths.layer_rows == without.layer_rows
    assert [(r.step, r.spectrum, r.reason) for r in without.paths[0]] == [(s, None, "something odd") for s in (0, 2)]
    assert sum("something odd" in n for n in without.notes) == 2
    assert finding(without).state == "skipped"
    assert "something odd" in finding(without).prescription


def test_a_net_without_skips_has_none(tmp_path: Path) -> None:
    told = run(tmp_path / "a", "skipgrad:plain8").run
    assert told.paths == {}
    assert finding(told).state == "not applicable"


def test_of_many_branches_the_mean_alone_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "a").run.paths[0][0].spectrum
    monkeypatch.setattr(PATHS, "MOST_BRANCHES", 2)
    told = run(tmp_path / "b").run
    part = told.paths[0][0].spectrum
    assert whole is not None
    assert part is not None
    assert part.lengths == (0,)
    assert part.mean_length == pytest.approx(whole.mean_length, rel=1e-5)
    assert parts(told).paths.mean_only == ("patient",)


@pytest.mark.parametrize("model", ["skipgrad:resnet20", "skipgrad:preresnet20"])
def test_a_healthy_net_gets_no_finding(tmp_path: Path, model: str) -> None:
    told = run(tmp_path / "a", model, steps=20, batch_size=32).run
    assert finding(told).state == "passed"


@pytest.mark.slow
def test_a_check_as_it_comes_says_of_a_resnet_56_what_veit_found(tmp_path: Path) -> None:
    told = run(tmp_path / "a", "skipgrad:resnet56", steps=None, batch_size=64).run
    judged = finding(told)
    assert judged.state == "passed"
    # Claim D4: signed mean path length below n/4 after training, and shorter than before.
    assert judged.evidence["mean_length"] < 27 / 4
    assert judged.evidence["mean_length"] < judged.evidence["mean_length_at_start"]


LOUD = """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
            for layer in (self.up, self.down):
                nn.init.normal_(layer.weight, std={gain} / width**0.5)

        def forward(self, x):
            return x + self.down(torch.relu(self.up(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks = nn.Linear(64, 32), nn.Sequential(*[Block(32) for _ in range(12)])
            self.head = nn.Linear(32, 10)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x.flatten(1))))
"""


def test_a_net_whose_branches_drown_their_skips_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "loud.py"
    path.write_text(textwrap.dedent(LOUD.replace("{gain}", "2.0")))
    told = run(tmp_path / "a", f"{path}:Net", lr=1e-12).run
    judged = finding(told)
    assert (judged.state, judged.severity) == ("found", "warning")
    assert judged.remedies == ("zero-init", "skip-calibration")
    path.write_text(textwrap.dedent(LOUD.replace("{gain}", "0.7")))
    assert finding(run(tmp_path / "b", f"{path}:Net", lr=1e-12).run).state == "passed"


def test_the_cured_net_is_measured_too_and_trains_as_without(tmp_path: Path) -> None:
    result = run(tmp_path / "a", "skipgrad:plain8", steps=3, attempt=True, remedies=("add-skips",))
    told = result.run
    cured = next(t for t in told.trials if t.measured and t.remedy == "add-skips")
    assert list(told.paths) == [cured.id]
    assert [r.step for r in told.paths[cured.id]] == [0, 3]
    spectrum = told.paths[cured.id][1].spectrum
    assert spectrum is not None
    assert spectrum.longest == 3
    twin = next(
        t for t in told.trials if (t.remedy, t.rate, t.seed, t.measured) == ("add-skips", cured.rate, cured.seed, False)
    )
    losses = {i: [p.loss for p in told.losses if p.trial == i] for i in (cured.id, twin.id)}
    assert losses[cured.id] == losses[twin.id]
    records = json.loads(json.dumps(result.to_dict(), allow_nan=False))["paths"]
    assert [(r["trial"], r["step"]) for r in records] == [(cured.id, 0), (cured.id, 3)]
    assert records[1]["spectrum"]["shares"] == list(spectrum.shares)
    assert "unsigned_mean_length" in records[0]["spectrum"]


def test_patient_and_cured_are_drawn_together(tmp_path: Path) -> None:
    told = run(tmp_path / "a", "skipgrad:resnet8", attempt=True, remedies=("zero-init",)).run
    drawn = parts(told).paths
    assert {(m["who"], m["when"][:6]) for m in drawn.means} == {
        (who, when) for who in ("patient", parts(told).strips.strips[1].who) for when in ("before", "after ")
    }
    # Zero-init: nothing comes back through the identity skips' branches before the first step.
    cured = [p for p in drawn.points if p["who"] != "patient" and p["when"].startswith("before")]
    assert cured[3]["share"] == 0
