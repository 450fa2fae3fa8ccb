import math
from dataclasses import replace

import pytest

from diagnosis.rows import healthy_residual, judge, losses, residual_graph, skip_rows
from skipgrad.core import Measurements, SkipGraph


def net(b, blocks: int = 9, **changes) -> Measurements:
    graph = residual_graph(blocks, **changes)
    return Measurements(graph, skip_rows([s.name for s in graph.skips], lambda t, i: {"branch_norm": b(i)}))


def test_drowned_skips():
    finding = judge("SG006", net(lambda i: 5.0 if i in (3, 4) else 0.1))
    assert (finding.state, finding.severity, finding.where) == ("found", "warning", ("b4", "b3"))
    assert finding.evidence["largest_branch_to_skip"] == 5
    assert "3.85 %" in finding.prescription
    assert finding.remedies == ("zero-init", "skip-calibration")


def test_one_drowned_skip_is_a_hint_and_one_lost_skip_a_warning():
    assert judge("SG006", net(lambda i: 3.4 if i == 0 else 0.1)).severity == "info"
    assert judge("SG006", net(lambda i: 35.0 if i == 0 else 0.1)).severity == "warning"


def test_a_lost_net_is_an_error():
    finding = judge("SG006", net(lambda i: 30.0 + i))
    assert finding.severity == "error"
    assert finding.where[0] == "b8"
    assert len(finding.where) == 9
    assert finding.evidence["drowned_skips"] == 9


def test_restless_together_is_told_where_the_run_does_not_learn():
    # A batch-norm ResNet-56 of the races, which trains: 27 skips of b = .73 give rho = 3.8.
    restless = net(lambda i: 0.73, 27)
    assert judge("SG006", restless).state == "passed"
    finding = judge("SG006", replace(restless, losses=losses([2.3] * 30)))
    assert (finding.state, finding.severity) == ("found", "info")
    assert finding.evidence["rho"] == pytest.approx(0.73 * math.sqrt(27), rel=1e-4)


def test_a_net_that_learns_all_the_same_needs_nothing():
    finding = judge("SG006", replace(net(lambda i: 5.0), losses=losses([2.3 * 0.9**t for t in range(30)])))
    assert (finding.state, finding.severity, finding.remedies) == ("found", "info", ())
    assert "nothing needs doing" in finding.prescription


def test_only_what_can_be_done_is_prescribed():
    dead = judge("SG006", net(lambda i: 5.0, tails=(("relu",),)))  # a branch that ends in a ReLU must not be zeroed
    assert dead.remedies == ("skip-calibration",)
    assert "zero" not in dead.prescription
    neither = judge("SG006", net(lambda i: 5.0, tails=(("softmax",),)))
    assert neither.remedies == ()
    assert "None of skipgrad's remedies" in neither.prescription


def test_pre_ln_of_the_races_is_calm():
    # 24 skips, rho = 1.3.
    assert judge("SG006", net(lambda i: 1.3 / math.sqrt(24), 24)).state == "passed"


def test_only_identity_shortcuts_count():
    assert judge("SG006", net(lambda i: 9.0, shortcut="projection")).state == "not applicable"
    assert judge("SG006", net(lambda i: 9.0, shortcut="scaled")).state == "not applicable"  # as GCNII's, on purpose
    assert judge("SG006", net(lambda i: 9.0, kind="concat")).state == "not applicable"
    assert judge("SG006", Measurements(SkipGraph(()))).state == "not applicable"


def test_a_shortcut_without_gradient_is_drowned():
    graph = residual_graph(2)
    rows = skip_rows(["b0", "b1"], lambda t, i: {"skip_norm": 0.0})
    assert judge("SG006", Measurements(graph, rows)).severity == "error"


def test_unmeasured_is_skipped():
    assert judge("SG006", Measurements(residual_graph(3))).state == "skipped"


def test_healthy():
    assert judge("SG006", healthy_residual()).state == "passed"
