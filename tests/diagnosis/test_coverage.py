""" "Passed" is said of what was seen, and of nothing else."""

from dataclasses import replace

import pytest

from diagnosis.rows import healthy_residual, judge, layer_rows, losses, skip_rows
from skipgrad.core import Account, Cost, Measurements
from skipgrad.diagnosis import diagnose
from skipgrad.diagnosis._coverage import coverage

RUN = 60


def seen(steps, run: int = RUN) -> Measurements:
    """A healthy net of which some steps were measured."""
    healthy = healthy_residual()
    some = set(steps)
    names = [s.name for s in healthy.graph.skips]
    return replace(
        healthy,
        skips=skip_rows(names, steps=sorted(some)),
        layers=layer_rows(len(healthy.graph.layers), steps=sorted(some)),
        losses=losses([2.3 * 0.97**t for t in range(run)]),
    )


def test_a_finding_carries_what_was_measured_of_what_ran():
    finding = judge("SG006", seen(range(0, RUN, 5)))
    assert finding.state == "passed"
    assert finding.coverage == {
        "steps": 12, "steps_run": 60, "skips": 9, "skips_run": 9, "layers": 20, "layers_run": 20,
    }  # fmt: skip


@pytest.mark.parametrize("steps", [[0], [0, 1], [0, 20, 40, 59], range(10), range(50, 60)])
def test_too_little_is_skipped_with_why(steps):
    states = {f.code: f for f in diagnose(seen(steps))}
    for code in ("SG001", "SG002", "SG003", "SG006", "SG009", "SG010", "SG013"):
        assert states[code].state == "skipped"
        assert f"{len(list(steps))} of 60 steps" in states[code].prescription
    assert states["SG004"].state == "passed"  # by the graph alone


@pytest.mark.parametrize("steps", [range(60), range(0, 60, 10), range(0, 60, 12)])
def test_evenly_spread_steps_are_enough(steps):
    assert judge("SG001", seen(steps)).state == "passed"


def test_a_single_step_that_was_all_there_was_is_all():
    assert judge("SG001", seen([0], run=1)).state == "passed"


def test_what_is_there_is_found_however_little_was_seen():
    few = seen([0])
    drowned = tuple(replace(r, branch_norm=50.0) for r in few.skips)
    assert judge("SG006", replace(few, skips=drowned)).state == "found"


def test_half_of_the_skips_have_to_be_seen():
    measured = seen(range(RUN))
    part = replace(measured, skips=tuple(r for r in measured.skips if r.skip in ("b0", "b1")))
    finding = judge("SG006", part)
    assert finding.state == "skipped"
    assert "2 of 9 skips" in finding.prescription


def test_the_ledgers_account_counts_steps_that_left_no_row():
    measured = replace(seen(range(10), run=10), losses=())
    told = replace(measured, account=Account(cost=Cost(measured=10, seen=60)))
    assert (coverage(told).steps, coverage(told).steps_run) == (10, 60)
    assert coverage(measured).steps_run == 10
