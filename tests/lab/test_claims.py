"""Every claim: what it states, that its verdict is pure, and – for those that take seconds – that it holds here."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest

from skipgrad.lab import CLAIMS, run_claim
from skipgrad.lab.claim import Claim
from skipgrad.lab.draw import legend, svg

NAMES = CLAIMS.built_in
# Figures as a run on this machine gave them, shortened: the claim holds. And what would refute it.
HOLDS: dict[str, Mapping[str, float]] = {
    "A1": {"skips": 5, "missing": 0, "skip error": 1e-16, "branch error": 1e-15, "sum error": 0, "cosine error": 1e-16},
    "A2": {
        "layers": 24, "convolution error": 1e-16, "skip error": 1e-16, "training batch norm error": 1e-16,
        "evaluation batch norm error": 1e-16, "γ/σ error in evaluation": 1e-16, "least γ/σ error in training": 0.09,
        "γ/σ error at a norm of ResNet-20, median": 0.02, "γ/σ error at its first layer": 0.58,
    },
    "D5": {
        "ratio of the medians": 800.0, "median |λmin/λmax| with skips": 4e-4, "median |λmin/λmax| without": 0.34,
        "error with skips %": 0.0, "error without %": 50.0,
    },
    "C3": {
        f"{net}, {name}": value
        for net in ("U-Net", "UNet2DModel")
        for name, value in (
            ("unscaled: loss at the end", 0.3), ("κ = 0.7: spread, ratio", 0.8), ("κ = 0.7: steps, ratio", 0.7)
        )
    },
    "D17": {
        f"arrived at momentum={m:g} ripple={r:g}": 1.0 if r == 0 or m >= 0.9 else 0.0
        for m in (0.0, 0.5, 0.9, 0.95)
        for r in (0.0, 0.1, 0.2, 0.3)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_asks_what_would_refute_it_and_where_it_is_from(name: str) -> None:
    claim: Claim = CLAIMS.get(name)
    for text in (claim.statement, claim.anchor, claim.criterion, claim.refutes, claim.setting, claim.duration):
        assert text
    assert len(claim.seeds) >= 3
    assert (claim.on_model is None) == bool(claim.not_on_model)
    assert claim.on_model is None or claim.on_model_sentence is not None


def test_all_of_d1_to_d19_are_there() -> None:
    assert {f"D{n}" for n in range(1, 20)} <= set(NAMES)
    assert {"A1", "A2", "A3", "A5", "C3"} <= set(NAMES)


# Claims that some seeds speak against in the full version: benchmarks/results/lab. What the quick one says is no matter
# of a test.
BY_SEED = ["C3", "D12"]
QUICK = ["A3", "A5", "D6", "D14", "D15", "D17", "D18"]


@pytest.mark.parametrize("name", QUICK)
def test_it_holds_here(name: str) -> None:
    verdict = run_claim(name, quick=True, seeds=[0])
    assert verdict.state == "reproduced", verdict.reason
    claim: Claim = CLAIMS.get(name)
    values = dict(verdict.figures[0].values)
    assert all(math.isfinite(v) for v in values.values())
    # The same verdict from the stored figures, without running anything; and a picture of them.
    again = claim.verdict({0: values}, quick=True, seconds=verdict.seconds)
    assert (again.state, again.reason, again.figures) == (verdict.state, verdict.reason, verdict.figures)
    picture = claim.picture(verdict.figures)
    assert picture.points
    assert svg(picture, claim.title).startswith("<svg")
    assert legend(picture)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in (*QUICK, "A1", "A2", "D1", "D2") and not n.startswith("APP-")]
)
def test_the_quick_version_runs_and_nothing_speaks_against_it(name: str) -> None:
    verdict = run_claim(name, quick=True, seeds=[0])
    if name in BY_SEED:
        assert all(math.isfinite(v) for v in verdict.figures[0].values.values())
    else:
        assert verdict.state != "not reproduced", verdict.reason
    claim: Claim = CLAIMS.get(name)
    assert svg(claim.picture(verdict.figures), claim.title).startswith("<svg")


@pytest.mark.parametrize(
    ("name", "figure", "worse"),
    [
        ("A1", "missing", 1),
        ("A1", "branch error", 1e-9),
        ("A2", "least γ/σ error in training", 0.001),
        ("C3", "UNet2DModel, κ = 0.7: spread, ratio", 0.95),
        ("C3", "U-Net, κ = 0.7: steps, ratio", 1.0),
        ("D5", "ratio of the medians", 2.0),
        ("D17", "arrived at momentum=0.9 ripple=0.2", -0.1),
        ("D17", "arrived at momentum=0 ripple=0", 0.9),
    ],
)
def test_the_criterion_is_not_idle(name: str, figure: str, worse: float) -> None:
    claim: Claim = CLAIMS.get(name)
    assert claim.judge(dict(HOLDS[name])) is True
    assert claim.judge({**HOLDS[name], figure: worse}) is False


def test_a_run_that_broke_off_is_not_steady() -> None:
    from skipgrad.core import LossPoint, Recipe
    from skipgrad.lab.claims.c3_scalelong import ARMS, PLAIN, SCALED, compared
    from skipgrad.train.results import TrialResult

    def run(losses: list[float]) -> TrialResult:
        trial = Recipe(40, lr=0.1).trial(0)
        return TrialResult(trial, tuple(LossPoint(0, i, loss, float(i)) for i, loss in enumerate(losses)))

    good = run([1.0 / (1 + i) for i in range(40)])
    best = dict.fromkeys(ARMS, good) | {SCALED: run([1.0, math.inf])}
    values = compared("net", best, {arm: [0.0 if arm == SCALED else 0.2] for arm in ARMS}, 40)
    assert values[f"net, {SCALED}: spread, ratio"] == values[f"net, {SCALED}: steps to the target"] == math.inf
    assert values[f"net, {PLAIN}: spread, ratio"] == pytest.approx(1.0)
    assert values["net, learned: steps, ratio"] == 1.0
