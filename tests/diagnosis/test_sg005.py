import pytest

from diagnosis.rows import healthy_residual, judge, residual_graph, skip_rows
from skipgrad.core import Measurements, SkipGraph

GRAPH = residual_graph(6)
NAMES = [s.name for s in GRAPH.skips]


def net(change, **more) -> Measurements:
    return Measurements(GRAPH, skip_rows(NAMES, change, **more))


def small(size: float) -> dict:
    return {"branch_rms": size, "branch_norm": size}


def test_one_idle_branch():
    finding = judge("SG005", net(lambda t, i: small(1e-4) if i == 2 else {}))
    assert (finding.state, finding.severity, finding.where) == ("found", "info", ("b2",))
    assert finding.evidence["effective_branches"] == 5
    assert finding.evidence["largest_share"] == pytest.approx(1e-4)


def test_most_branches_idle_is_a_warning_and_the_idlest_comes_first():
    finding = judge("SG005", net(lambda t, i: small(10.0 ** (-3 - i)) if i < 4 else {}))
    assert finding.severity == "warning"
    assert finding.where == ("b3", "b2", "b1", "b0")


def test_zero_init_wakes_up():
    # Zero at the first step, then growing: 0, .001, .002 …
    assert judge("SG005", net(lambda t, i: small(1e-3 * t))).state == "passed"


def test_zero_that_stays_zero_does_not():
    assert judge("SG005", net(lambda t, i: small(0.0))).state == "found"


def test_small_forward_with_a_gradient_is_not_idle():
    assert judge("SG005", net(lambda t, i: {"branch_rms": 1e-4})).state == "passed"
    assert judge("SG005", net(lambda t, i: {"branch_norm": 1e-4})).state == "passed"


def test_too_few_steps_are_skipped():
    assert judge("SG005", net(lambda t, i: small(0.0), steps=range(4))).state == "skipped"


def test_no_skips_does_not_apply():
    assert judge("SG005", Measurements(SkipGraph(()))).state == "not applicable"


def test_healthy():
    finding = judge("SG005", healthy_residual())
    assert finding.state == "passed"
    assert finding.evidence["branches"] == 9
