from dataclasses import replace

import pytest

from diagnosis.rows import healthy_residual, judge, layer_rows, layers, losses, residual_graph
from skipgrad.core import Layer, Measurements, SkipGraph, Suggestion


def bridged(count: int) -> SkipGraph:
    """Layers without a skip, and a place for one."""
    hint = Suggestion("l3", "l4", 2, (8, 16, 8, 8), (8, 16, 8, 8), "identity")
    return SkipGraph((), layers=layers(count), suggestions=(hint,))


def net(factor: float, count: int = 20, graph: SkipGraph | None = None) -> Measurements:
    rows = layer_rows(count, lambda t, i: {"out_grad_norm": factor ** (count - 1 - i)})
    return Measurements(graph or bridged(count), layers=rows)


def test_found_and_its_figures():
    finding = judge("SG002", net(1.6))
    assert (finding.state, finding.severity) == ("found", "warning")
    assert finding.evidence["first_to_last"] == pytest.approx(1.6**17, rel=1e-4)
    assert finding.evidence["per_layer_factor"] == pytest.approx(1.6, rel=1e-4)
    assert finding.where[0] == "l0"
    assert finding.remedies[0] == "add-skips"


def test_plain_56_with_batch_norm_is_found():
    assert judge("SG002", net(1.2, 56)).state == "found"


def test_error_when_it_is_hopeless():
    assert judge("SG002", net(3.0)).severity == "error"


def test_a_net_with_skips_gets_another_prescription():
    assert judge("SG002", net(2.0, 20, residual_graph(9))).remedies[0] == "zero-init"


@pytest.mark.parametrize("factor", [1.0, 1.3, 0.1])
def test_silent_below_the_threshold(factor):
    assert judge("SG002", net(factor)).state == "passed"


def test_a_start_that_explodes_is_found_though_it_settles():
    rows = layer_rows(20, lambda t, i: {"out_grad_norm": 1.5 ** (19 - i) if t == 0 else 1.0})
    finding = judge("SG002", Measurements(SkipGraph((), layers=layers(20)), layers=rows))
    assert finding.state == "found"
    assert finding.evidence["first_to_last_at_start"] == pytest.approx(1.5**17, rel=1e-4)
    assert finding.where


def test_a_loss_that_is_a_thousand_times_chance_is_no_sign_that_the_run_copes():
    graph = SkipGraph(
        (), layers=(*layers(19), Layer("l19", "linear", (8, 10), "l")), suggestions=bridged(20).suggestions
    )
    coped = replace(net(1.6, graph=graph), losses=losses([5.0 * 0.8**t for t in range(30)]))
    assert judge("SG002", coped).severity == "info"
    lost = judge("SG002", replace(coped, losses=losses([5e4 * 0.97**t for t in range(30)])))
    assert lost.severity == "warning"
    assert lost.remedies[0] == "add-skips"
    assert "nothing needs doing" not in lost.prescription


def test_healthy():
    assert judge("SG002", healthy_residual()).state == "passed"
