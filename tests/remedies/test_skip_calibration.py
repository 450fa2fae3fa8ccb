from __future__ import annotations

import math

import pytest
import torch

from remedies import cases
from skipgrad.core import BadInput, Measurements, RemedyRefused, SkipGraph
from skipgrad.remedies import Evidence, calibrate, remedy
from skipgrad.remedies.skip_calibration import SkipCalibration

CALIBRATION = remedy("skip-calibration")


def test_factor_is_the_formula():
    graph = SkipGraph((cases.skip("a", ("f",)), cases.skip("b", ("g",)), cases.skip("c", ("h",), shortcut="pool")))
    rows = (
        cases.row("a", 1.0, 4.0),
        cases.row("a", 1.0, 2.0, micro=1),
        cases.row("a", 1.0, 3.0, micro=2),
        cases.row("a", 1.0, 99.0, step=1),
        cases.row("b", 2.0, 0.5),
    )
    plan = CALIBRATION.plan(graph, Measurements(graph, rows))
    assert {e.where: e.factor for e in plan.edits} == {"f": pytest.approx(0.5 / 3), "g": pytest.approx(0.5 / 0.25)}
    assert [s.skip for s in plan.skipped] == ["c"]
    half = SkipCalibration(c=2.0, p=0.5).plan(graph, Measurements(graph, rows))
    assert half.edits[0].factor == pytest.approx(2 / math.sqrt(2) / 3)


def test_factors_are_clipped_and_what_was_not_measured_is_left_alone():
    graph = SkipGraph(tuple(cases.skip(n, (f"f{n}",)) for n in "abcd"))
    rows = (
        cases.row("a", 1.0, 1e9),
        cases.row("b", 1.0, 1e-9),
        cases.row("c", 1.0, 0.0),
        cases.row("e", 1.0, 1.0),
    )
    plan = CALIBRATION.plan(graph, Measurements(graph, rows))
    assert [e.factor for e in plan.edits] == [1e-3, 1e3]
    assert {s.skip: s.reason for s in plan.skipped} == {
        "c": "its branch gradient is 0",
        "d": "no usable measurement of it in the first step",
    }


def test_weights_are_multiplied_and_verified():
    model, x, graph = cases.residual()
    before = cases.state(model)
    plan = CALIBRATION.plan(graph, cases.brute_force(model, x, graph))
    with plan.apply(model) as applied:
        after = cases.state(model)
        for edit in plan.edits:
            for name in ("weight", "bias"):
                key = f"{edit.where}.{name}"
                assert torch.equal(after[key], before[key] * edit.factor)
        others = [k for k in before if not k.endswith(("f.2.weight", "f.2.bias"))]
        assert all(torch.equal(before[k], after[k]) for k in others)
        seen = applied.verify()
        assert seen.checks[0].residual == 0
        assert seen.checks[1].state == "not applicable"


def test_three_sweeps_reach_one_over_l():
    model, x, graph = cases.residual(depth=8)

    def measure(m):
        return cases.brute_force(m, x, graph)

    start = max(abs(r.branch_norm / r.skip_norm * 8 - 1) for r in measure(model).skips)
    sweeps = calibrate(model, graph, measure, sweeps=3)
    seen = sweeps[-1].verify(Evidence(measured=measure(model)))
    exact = max(abs(r.branch_norm / r.skip_norm * 8 - 1) for r in measure(model).skips)
    assert start > 1
    assert seen.checks[1].residual == pytest.approx(exact)
    assert exact < 0.2  # .003 to .057 over ten seeds, from 2.5 to 12
    assert seen.ok


def test_verify_fails_when_it_is_not_calibrated():
    model, x, graph = cases.residual()
    with CALIBRATION.plan(graph, cases.brute_force(model, x, graph)).apply(model) as applied:
        off = Measurements(graph, (cases.row(graph.skips[0].name, 1.0, 1.0),))
        seen = applied.verify(Evidence(measured=off))
        assert not seen.ok
        assert seen.residual == pytest.approx(3)


def test_refusals():
    graph = SkipGraph((cases.skip("a", ("f",), tails=(("layer_norm",),)),))
    with pytest.raises(RemedyRefused, match="does not pass a factor on"):
        CALIBRATION.plan(graph, Measurements(graph, (cases.row("a", 1.0, 1.0),)))
    with pytest.raises(BadInput, match="positive c"):
        SkipCalibration(c=0)
    with pytest.raises(BadInput, match="at least 1"):
        calibrate(cases.Residual(), graph, lambda m: None, sweeps=0)
