import dataclasses

import pytest

from diagnosis.rows import healthy_residual, judge, layer_rows, layers, residual_graph
from skipgrad.core import Measurements, SkipGraph, Suggestion


def bridged(count: int) -> SkipGraph:
    """Layers without a skip, and a place for one."""
    hint = Suggestion("l3", "l4", 2, (8, 16, 8, 8), (8, 16, 8, 8), "identity")
    return SkipGraph((), layers=layers(count), suggestions=(hint,))


def net(factor: float, count: int = 20, graph: SkipGraph | None = None) -> Measurements:
    """The gradient changes by ``factor`` per layer going backwards."""
    rows = layer_rows(count, lambda t, i: {"out_grad_norm": (1 + t) * factor ** (count - 1 - i)})
    return Measurements(graph or bridged(count), layers=rows)


def test_found_and_its_figures():
    finding = judge("SG001", net(0.5))
    assert finding.state == "found"
    assert finding.severity == "warning"
    # The third layer against the last: 17 layers apart.
    assert finding.evidence["first_to_last"] == pytest.approx(0.5**17, rel=1e-4)
    assert finding.evidence["per_layer_factor"] == pytest.approx(0.5, rel=1e-4)
    assert finding.where[0] == "l0"
    assert finding.evidence["layers_below"] == 10
    assert finding.evidence["starts_at"] == "l15"
    assert finding.remedies[0] == "add-skips"
    assert "7.63e-06" in finding.prescription


def test_error_when_it_is_gone():
    assert judge("SG001", net(0.3)).severity == "error"


def test_zero_is_gone():
    rows = layer_rows(12, lambda t, i: {"out_grad_norm": 0.0 if i < 5 else 1.0, "weight_grad_norm": 0.0})
    finding = judge("SG001", Measurements(SkipGraph((), layers=layers(12)), layers=rows))
    assert (finding.state, finding.severity) == ("found", "error")
    assert finding.evidence["first_to_last"] == 0


def test_a_net_with_skips_gets_another_prescription():
    graph = residual_graph(9)
    assert judge("SG001", net(0.5, 20, graph)).remedies[0] == "zero-init"


def test_a_sigmoid_between_the_skips_is_no_matter_of_the_branches():
    finding = judge("SG001", net(0.5, 20, residual_graph(9, trunk=("sigmoid",))))
    assert "sigmoid lies between them at 8 places" in finding.prescription
    assert finding.remedies == ()
    assert judge("SG001", net(0.5, 20, residual_graph(9, trunk=("relu",)))).remedies[0] == "zero-init"


@pytest.mark.parametrize("factor", [1.0, 0.75, 3.0])
def test_silent_above_the_threshold(factor):
    assert judge("SG001", net(factor)).state == "passed"


def test_healthy():
    assert judge("SG001", healthy_residual()).state == "passed"


def test_one_odd_layer_or_step_is_forgiven():
    rows = layer_rows(20, lambda t, i: {"out_grad_norm": 1e-9 if i == 0 or (t == 3 and i < 10) else 1.0})
    assert judge("SG001", Measurements(SkipGraph((), layers=layers(20)), layers=rows)).state == "passed"


def test_queries_and_keys_do_not_speak_for_their_depth():
    rows = layer_rows(20, lambda t, i: {"out_grad_norm": 1.0 if i % 3 == 0 else 1e-5})
    assert judge("SG001", Measurements(SkipGraph((), layers=layers(20)), layers=rows)).state == "passed"


def test_an_initialisation_too_small_for_all_is_said():
    assert "forward" in judge("SG001", net(0.5)).prescription
    rows = layer_rows(20, lambda t, i: {"out_grad_norm": 0.5 ** (19 - i), "weight_grad_norm": 0.5 ** (19 - i)})
    small = Measurements(SkipGraph((), layers=layers(20)), layers=rows)
    assert "forward" not in judge("SG001", small).prescription


def test_frozen_layers_do_not_count():
    rows = layer_rows(
        20, lambda t, i: {"out_grad_norm": 0.0, "weight_grad_norm": None} if i < 8 else {"out_grad_norm": 1.0}
    )
    assert judge("SG001", Measurements(SkipGraph((), layers=layers(20)), layers=rows)).state == "passed"


def test_too_shallow_does_not_apply_and_unmeasured_is_skipped():
    assert judge("SG001", net(0.001, 3)).state == "not applicable"
    assert judge("SG001", Measurements(SkipGraph((), layers=layers(3)))).state == "not applicable"
    assert judge("SG001", Measurements(SkipGraph((), layers=layers(30)))).state == "skipped"


def test_no_gradient_at_all_is_skipped():
    still = dataclasses.replace(
        net(1.0), layers=layer_rows(20, lambda t, i: {"out_grad_norm": 0.0, "weight_grad_norm": 0.0})
    )
    assert judge("SG001", still).state == "skipped"
