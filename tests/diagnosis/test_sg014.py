import math
from dataclasses import replace

import pytest

from diagnosis.rows import judge, residual_graph
from skipgrad.core import ChangeRow, LossPoint, Measurements, SkipGraph

GRAPH = residual_graph(6)
STILL = tuple(LossPoint(0, i, 2.3 + 0.01 * (-1) ** i, 0.0) for i in range(40))
FALLING = tuple(LossPoint(0, i, 2.3 * 0.95**i, 0.0) for i in range(40))


def run(change: float, rates: tuple[float, ...] = (0.1,) * 5, losses=STILL) -> Measurements:
    """Looks whose change is proportional to the rate, ``change`` at 0.1."""
    rows = tuple(ChangeRow(5 * i, change * r / 0.1, r, 6, "b2", change * r / 0.2) for i, r in enumerate(rates))
    return Measurements(GRAPH, losses=losses, changes=rows)


@pytest.mark.parametrize(("change", "says", "factor"), [(0.01, "too low", 25.0), (2.5, "too high", 0.1)])
def test_it_says_which_way_and_by_how_much(change, says, factor):
    finding = judge("SG014", run(change))
    assert (finding.state, finding.severity) == ("found", "warning")
    assert says in finding.prescription
    assert finding.evidence["factor"] == pytest.approx(factor)
    assert f"multiply it by about {20 if factor > 1 else 0.1}" in finding.prescription
    assert finding.where == (() if says == "too low" else ("b2",))
    assert "self-tune" in finding.remedies


@pytest.mark.parametrize("change", [0.06, 0.25, 0.5])
def test_silent_where_nets_learn(change):
    finding = judge("SG014", run(change))
    assert finding.state == "passed"
    assert finding.evidence["change"] == pytest.approx(change)


def test_a_run_that_learned_is_no_alarm():
    finding = judge("SG014", run(0.01, losses=FALLING))
    assert (finding.state, finding.severity, finding.remedies) == ("found", "info", ())
    assert "nothing needs doing" in finding.prescription


def test_warm_up_and_the_end_of_a_schedule_do_not_count():
    low_ends = (1e-4, 1e-3, 0.1, 0.08, 0.06, 0.01, 1e-3, 1e-4)
    finding = judge("SG014", run(0.25, low_ends))
    assert finding.state == "passed"
    assert finding.evidence["change"] == pytest.approx(0.25)
    assert judge("SG014", run(0.25, (1e-4, 1e-3, 0.1, 0.1))).state == "skipped"


def test_what_was_not_measured_is_not_judged():
    assert judge("SG014", Measurements(GRAPH)).state == "skipped"
    assert judge("SG014", Measurements(SkipGraph(()))).state == "not applicable"
    broken = run(0.25)
    rows = (*broken.changes, replace(broken.changes[0], step=99, change=math.inf))
    assert "SG010" in judge("SG014", replace(broken, changes=rows)).prescription
    none = judge("SG014", run(0.0))  # a rate of next to nothing
    assert none.evidence["factor"] == 100.0
