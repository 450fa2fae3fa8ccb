"""The main job on real models and data, to a report."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from browser import assert_clean, show
from recipes import options
from skipgrad.check import CheckResult, check
from skipgrad.core import BadInput, DataError, ModelError, OutputError, SkipGraph, UnknownName
from skipgrad.diagnosis import CHECKS
from skipgrad.ledger import Ledger
from skipgrad.store import RunWriter, read_run, schedule


def run(tmp_path: Path, model: str, data: str, **given: Any) -> CheckResult:
    defaults = {"out": tmp_path / "out", "steps": 3, "batch_size": 8, "attempt": False}
    return check(options(model, data, **{**defaults, **given}))


def found(result: CheckResult) -> set[str]:
    return {f.code for f in result.run.findings if f.state == "found"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> CheckResult:
    """What `make demo` runs, in a process that has trained before: its first training may differ in the last bits."""
    run(tmp_path_factory.mktemp("before"), "skipgrad:plain56", "digits", steps=2, batch_size=64)
    return run(tmp_path_factory.mktemp("demo"), "skipgrad:plain56", "digits", steps=None, batch_size=64, attempt=True)


@pytest.mark.slow
def test_the_demo_finds_what_ails_a_plain_net_and_cures_it(demo: CheckResult) -> None:
    """No skips, a vanishing gradient, stalled updates; with skips it trains where it never did."""
    graph = demo.run.graph
    assert graph is not None
    assert len(graph) == 0
    assert len(graph.layers) == 56
    assert found(demo) >= {"SG001", "SG003", "SG004"}
    cures = {c.remedy: c for c in demo.run.cures}
    assert {c.state for c in cures.values() if c.remedy != "add-skips"} <= {"refused"}
    cure = cures["add-skips"]
    assert cure.state == "helped"
    assert cure.best_loss is not None
    assert cure.patient_best_loss is not None
    assert cure.best_loss < 0.6 * cure.patient_best_loss
    assert (cure.patient_trains, cure.steps_ratio, cure.seconds_ratio) == (False, None, None)
    # The same trial with the ledger on (0) and off, at the same rate and seed: the same losses to the bit.
    losses = {t.id: [p.loss for p in demo.run.losses if p.trial == t.id] for t in demo.run.trials}
    twin = next(t for t in demo.run.trials if t.id and t.remedy is None and (t.rate, t.seed) == (0.05, 0))
    assert losses[0] == losses[twin.id]
    cured = next(t for t in demo.run.trials if t.remedy == "add-skips" and t.measured)
    assert len(demo.run.graphs[cured.id]) == 27
    assert max(r.residual for r in demo.run.skip_rows[cured.id]) < 1e-5


@pytest.mark.slow
@pytest.mark.browser
def test_the_demos_report_opens_offline_without_a_complaint(demo: CheckResult, driver: Any, tmp_path: Path) -> None:
    for width in (1280, 400):
        shot = show(driver, demo.report_path, tmp_path / f"demo-{width}.png", width)
        assert_clean(driver, width)
        assert shot.stat().st_size > 20_000
    assert "the patient does not train" in driver.find_element("tag name", "body").text


MODELS = {
    "resnet": ("torchvision:resnet18", "digits", {}, 8),
    "gpt2": ("transformers:gpt2", "text", {"n_layer": 2, "n_embd": 32, "n_head": 2}, 4),
    "unet": ("smp:Unet", "shapes", {}, 12),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_of_the_libraries_run_to_a_report(tmp_path: Path, name: str) -> None:
    pytest.importorskip("torchvision")
    model, data, args, skips = MODELS[name]
    result = run(tmp_path, model, data, model_args=args, batch_size=4)
    assert result.run.graph is not None
    assert len(result.run.graph) == skips
    assert {r.skip for r in result.run.skip_rows[0]} == {s.name for s in result.run.graph}
    assert {r.step for r in result.run.layer_rows[0]} == {0, 1, 2}
    assert all(r.update_norm is not None for r in result.run.layer_rows[0])
    assert result.report_path.stat().st_size > 100_000
    assert result.run.meta["state"] == "done"
    assert [f.code for f in result.run.findings] == sorted(CHECKS.built_in)


OWN = """
    import torch
    from torch import nn


    class Block(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.a, self.b = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.b(self.act(self.a(x)))
            y += x
            return self.act(y)


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.blocks = nn.Conv2d(1, 8, 3, padding=1), nn.Sequential(*[Block(8) for _ in range(3)])
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            return self.head(self.blocks(self.stem(x)).mean((2, 3)))


    class Broken(Net):
        def forward(self, x):
            raise RuntimeError("out of luck")


    class Exploding(Net):
        def forward(self, x):
            return super().forward(x) * 1e30


    class Five(Net):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, 5)


    def holes():
        x = torch.randn(32, 1, 8, 8)
        x[3] = float("nan")
        return torch.utils.data.TensorDataset(x, torch.randint(0, 10, (32,)))
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(textwrap.dedent(OWN))
    return path


def test_a_file_of_ones_own_with_in_place_ops_and_named_remedies(tmp_path: Path, own: Path) -> None:
    seen: list[str] = []
    asked = options(
        f"{own}:Net", "digits", steps=4, batch_size=16, out=tmp_path / "out", remedies=("zero-init", "gradient-scaling")
    )
    result = check(asked, progress=lambda stage, *_: seen.append(stage))
    assert result.run.graph is not None
    assert [s.shortcut for s in result.run.graph] == ["identity"] * 3
    assert [c.remedy for c in result.run.cures] == ["zero-init", "gradient-scaling"]
    assert all(c.state in ("helped", "no change", "worse") for c in result.run.cures)
    assert "trying zero-init, gradient-scaling" in seen
    # Equal budgets: each contestant the same rates, seeds and steps.
    raced = [t for t in result.run.trials if not t.measured]
    budget = {r: sorted((t.rate, t.seed, t.steps) for t in raced if t.remedy == r) for r in {t.remedy for t in raced}}
    assert {len(b) for b in budget.values()} == {5}
    assert {t.steps for t in raced} == {4}
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert set(data) >= {"schema", "run", "report", "graph", "steps", "losses", "findings", "cures"}
    assert SkipGraph.from_json(json.dumps(data["graph"])) == result.run.graph
    wanted = {"remedy", "state", "reason", "final_loss", "patient_final_loss", "steps_ratio", "seconds_ratio"}
    assert set(data["cures"][0]) >= wanted
    wanted = {"code", "state", "severity", "where", "evidence", "prescription"}
    assert set(data["findings"][0]) >= wanted


def test_a_remedy_that_does_not_apply_is_refused_with_the_reason(tmp_path: Path) -> None:
    result = run(tmp_path, "skipgrad:plain8", "digits", attempt=True, remedies=("zero-init",))
    (cure,) = result.run.cures
    assert cure.state == "refused"
    assert "among 0 skips" in cure.reason


def test_a_loss_that_goes_to_infinity_is_a_finding(tmp_path: Path, own: Path) -> None:
    result = run(tmp_path, f"{own}:Exploding", "digits", steps=5, lr=1e3)
    assert "SG010" in found(result)
    assert result.run.trials[0].state == "diverged"
    assert result.report_path.exists()


def test_what_an_earlier_check_left_is_kept(tmp_path: Path) -> None:
    first = run(tmp_path, "skipgrad:resnet8", "digits")
    kept = first.run_path.read_bytes()
    run(tmp_path, "skipgrad:resnet8", "digits", seed=1)
    assert (tmp_path / "out" / "run.1.sqlite").read_bytes() == kept
    assert (tmp_path / "out" / "report.1.html").exists()


def test_rows_are_passed_on_once_and_kept_in_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long check copies no row twice, and what it keeps of them is what its file gives."""
    monkeypatch.setattr(schedule, "MOST_ROWS", 1)
    passed: list[tuple[int, str]] = []
    copied: list[int] = []
    write, layers = RunWriter.layer_rows, Ledger.layers

    def counted(writer: RunWriter, trial: int, rows: Any) -> RunWriter:
        passed.extend((r.step, r.layer) for r in rows)
        return write(writer, trial, rows)

    monkeypatch.setattr(RunWriter, "layer_rows", counted)
    monkeypatch.setattr(Ledger, "layers", lambda ledger: copied.append(1) or layers(ledger))
    result = run(tmp_path, "skipgrad:plain8", "digits", steps=60)
    assert len(passed) == len(set(passed)) == 60 * 8
    assert len(copied) < 10  # of 60 steps; whoever diagnoses asks for all
    assert result.run.thinned[0].steps == 60
    assert len(result.run.layer_rows[0]) < 60 * 8 / 2
    assert any("every 2nd, 4th" in note for note in result.run.notes)


def test_an_error_that_nobody_foresaw_is_a_failure_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(sys.modules["skipgrad.check.check"], "diagnose", broken)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "skipgrad:plain8", "digits")
    meta = read_run(tmp_path / "out" / "run.sqlite").meta
    assert (meta["state"], meta["error"]) == ("failed", "ZeroDivisionError: by zero")


@pytest.mark.parametrize(("threads", "how"), [(None, "as they were"), ("auto", "auto: "), (1, "fixed")])
def test_the_run_file_tells_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: Any, how: str
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("skipgrad.instrument.threads.allowed_cpus", lambda: 2)
    before = torch.get_num_threads()
    result = run(tmp_path, "skipgrad:plain8", "digits", steps=12, threads=threads)
    told = result.run.meta["threads"]
    assert set(told) == {"chosen", "allowed", "how", "changes"}
    assert told["how"].startswith(how)
    assert told["chosen"] in ((1, 2) if threads == "auto" else (before if threads is None else 1,))
    assert torch.get_num_threads() == before
    # What chose them is thrown away: no trial of it is in the file, and the patient has all its steps.
    assert [(t.id, t.steps) for t in result.run.trials] == [(0, 12)]
    assert [p.step for p in result.run.losses] == list(range(12))


@pytest.mark.slow
def test_long_runs_are_measured_every_nth_step(tmp_path: Path) -> None:
    result = run(tmp_path, "skipgrad:resnet8", "digits", steps=200, batch_size=2)
    assert sorted({r.step for r in result.run.skip_rows[0]}) == list(range(0, 200, 2))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision(tmp_path: Path, precision: str) -> None:
    exact = run(tmp_path, "skipgrad:resnet8", "digits", steps=1).run.skip_rows[0]
    rough = run(tmp_path, "skipgrad:resnet8", "digits", steps=1, precision=precision).run.skip_rows[0]
    for a, b in zip(rough, exact, strict=True):
        assert a.skip_norm == pytest.approx(b.skip_norm, rel=0.1)


@pytest.mark.slow
def test_compiled_models_are_measured_like_plain_ones(tmp_path: Path) -> None:
    result = run(tmp_path, "skipgrad:resnet8", "digits", compile=True)
    plain = run(tmp_path, "skipgrad:resnet8", "digits")
    assert not [n for n in result.run.notes if "not measured" in n]
    rows, exact = result.run.skip_rows[0], plain.run.skip_rows[0]
    assert [(r.step, r.skip) for r in rows] == [(r.step, r.skip) for r in exact]
    for a, b in zip(rows[:3], exact[:3], strict=True):
        assert a.skip_norm == pytest.approx(b.skip_norm, rel=1e-3)
    assert {r.step for r in result.run.layer_rows[0]} == {0, 1, 2}


@pytest.mark.parametrize(
    ("model", "data", "error", "words"),
    [
        ("skipgrad:plan56", "digits", UnknownName, "plain"),
        ("skipgrad:plain56", "digit", UnknownName, "digits"),
        ("{own}:Nit", "digits", UnknownName, "Net"),
        ("{own}:Broken", "digits", ModelError, "out of luck"),
        ("{own}:Five", "digits", DataError, "5"),
        ("{own}:Net", "{own}:holes", DataError, "NaN"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    tmp_path: Path, own: Path, model: str, data: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(tmp_path, model.format(own=own), data.format(own=own), steps=8)
    out = tmp_path / "out"
    if (out / "run.sqlite").exists():  # what was measured before the mistake showed is kept
        assert read_run(out / "run.sqlite").meta["state"] == "failed"


def test_values_out_of_range_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    for given in ({"steps": 0}, {"lr": -1.0}, {"device": "gpu"}, {"precision": "float7"}, {"optimizer": "sdg"}):
        with pytest.raises(BadInput):
            run(tmp_path, "skipgrad:resnet8", "digits", **given)
    with pytest.raises(UnknownName, match="zero-init"):
        run(tmp_path, "skipgrad:resnet8", "digits", remedies=("zero-int",))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError):
        run(tmp_path, "skipgrad:resnet8", "digits", out=blocked / "out")
    assert not (tmp_path / "out").exists()
