from dataclasses import replace

import pytest

from diagnosis.rows import healthy_residual, judge, layer_rows, layers, losses, residual_graph
from skipgrad.core import Layer, Measurements, SkipGraph


def net(change, op: str = "linear", **more) -> Measurements:
    return Measurements(SkipGraph((), layers=layers(4, op)), layers=layer_rows(4, change, **more))


def test_rounded_away():
    finding = judge("SG003", net(lambda t, i: {"stalled": 0.7, "update_norm": 1e-9} if i == 1 else {}))
    assert (finding.state, finding.severity, finding.where) == ("found", "warning", ("l1",))
    assert finding.evidence["dtype"] == "float32"
    assert finding.evidence["relative_floor"] == pytest.approx(2**-24, rel=1e-4)
    assert finding.evidence["relative_update"] == pytest.approx(1e-9)
    assert finding.evidence["reason"] == "rounded away"


def test_frozen_is_an_error_and_the_worst_comes_first():
    finding = judge("SG003", net(lambda t, i: {"stalled": [0.0, 0.6, 0.99, 0.7][i]}))
    assert finding.severity == "error"
    assert finding.where == ("l2", "l3", "l1")


def test_half_precision_wants_float32_weights_not_a_remedy():
    finding = judge("SG003", net(lambda t, i: {"stalled": 0.8, "dtype": "bfloat16"}))
    assert finding.state == "found"
    assert "float32" in finding.prescription
    assert finding.evidence["relative_floor"] == pytest.approx(2**-8, rel=1e-4)
    assert finding.remedies == ()


def test_warm_up_is_not_judged():
    assert judge("SG003", net(lambda t, i: {"stalled": 1.0 if t < 1 else 0.0})).state == "passed"
    # A rate that ends at zero stalls the last steps; that is no majority either.
    assert judge("SG003", net(lambda t, i: {"stalled": 1.0 if t in (0, 8, 9) else 0.0})).state == "passed"


def test_no_gradient_at_all():
    finding = judge("SG003", net(lambda t, i: {"zero_grad": 1.0, "weight_grad_norm": 0.0} if i == 0 else {}))
    assert (finding.state, finding.severity, finding.where) == ("found", "error", ("l0",))
    assert finding.evidence["reason"] == "no gradient"


def test_an_expert_that_is_picked_now_and_then_is_not_cut_off():
    def picked(often: int):
        return lambda t, i: {"zero_grad": 0.0 if i == 1 and t % often == 0 else float(i == 1)}

    assert judge("SG003", net(picked(4), steps=range(40))).state == "passed"
    assert judge("SG003", net(picked(39), steps=range(40))).evidence["reason"] == "no gradient"


def test_a_few_layers_without_a_gradient_in_a_run_that_learns_are_told_and_no_alarm():
    def died(t, i):
        return {"zero_grad": 1.0 if i == 3 and t > 12 else 0.0}

    graph = SkipGraph((), layers=layers(20))
    run = Measurements(graph, layers=layer_rows(20, died, steps=range(40)), losses=losses([0.95**t for t in range(40)]))
    finding = judge("SG003", run)
    assert (finding.state, finding.severity, finding.where) == ("found", "info", ("l3",))
    assert "learns without them" in finding.prescription
    assert judge("SG003", replace(run, losses=losses([1.0] * 40))).severity == "error"


def test_weights_that_do_not_move_at_all_ask_for_their_optimizer():
    finding = judge("SG003", net(lambda t, i: {"stalled": 1.0, "update_norm": 0.0}))
    assert "whether the optimizer has these very weights" in finding.prescription
    assert "rate_factor" not in finding.evidence

    def one(t, i):
        return {"stalled": 1.0, "update_norm": 0.0, "weight_grad_norm": push} if i == 1 else {}

    push = 0.5  # as much as the others', which move by a thousandth
    assert "these very weights" in judge("SG003", net(one)).prescription
    push = 1e-6  # what would come of it is rounded away
    assert "bring more gradient" in judge("SG003", net(one)).prescription


def test_nothing_that_scales_a_gradient_is_prescribed():
    def none(t, i):
        return {"zero_grad": 1.0, "weight_grad_norm": 0.0} if i < 10 else {}

    graph = residual_graph(9)
    finding = judge("SG003", Measurements(graph, layers=layer_rows(20, none)))
    assert (finding.state, finding.remedies) == ("found", ())
    slow = Measurements(graph, layers=layer_rows(20, lambda t, i: {"stalled": 0.9} if i < 10 else {}))
    assert judge("SG003", slow).remedies == ()  # what evens out gradients cured nothing that we raced or treated


def test_the_rate_is_told_by_how_much():
    finding = judge("SG003", net(lambda t, i: {"stalled": 0.9, "update_norm": 1e-8}))
    assert finding.evidence["rate_factor"] == pytest.approx(1e5)
    assert "100,000×" in finding.prescription
    # Where most layers move, it is not the rate.
    one = judge("SG003", net(lambda t, i: {"stalled": 0.9, "update_norm": 1e-8} if i == 1 else {}))
    assert "rate_factor" not in one.evidence


def test_zero_branch_at_the_first_step_is_on_purpose():
    assert judge("SG003", net(lambda t, i: {"zero_grad": 1.0 if t == 0 else 0.0})).state == "passed"
    assert judge("SG003", net(lambda t, i: {"zero_grad": 1.0}, steps=[0])).state == "passed"


def test_dead_units_alone_are_no_finding():
    assert judge("SG003", net(lambda t, i: {"zero_grad": 0.6})).state == "passed"


def test_underflow():
    change = {"zero_grad": 0.6, "weight_grad_norm": 1e-6 * 400**0.5, "dtype": "float16"}
    finding = judge("SG003", net(lambda t, i: change))
    assert finding.state == "found"
    assert finding.evidence["reason"] == "underflow"
    assert finding.remedies == ()


def test_rows_of_an_embedding_that_are_not_in_the_batch():
    graph = SkipGraph((), layers=(Layer("l0", "embedding", (8, 4, 16), "l"), *layers(4)[1:]))
    change = {"zero_grad": 0.99, "weight_grad_norm": 1e-6, "dtype": "float16"}
    rows = layer_rows(4, lambda t, i: change if i == 0 else {})
    assert judge("SG003", Measurements(graph, layers=rows)).state == "passed"


def test_share_is_of_the_weights_that_have_a_gradient():
    # Nine in ten gradients underflowed, and the step ignores all the others.
    finding = judge("SG003", net(lambda t, i: {"zero_grad": 0.9, "stalled": 0.1}))
    assert (finding.state, finding.severity) == ("found", "error")
    assert finding.evidence["largest_share"] == 1


def test_steps_that_a_loss_scaler_skipped_do_not_count():
    overflow = {"stalled": 1.0, "finite": False}
    assert judge("SG003", net(lambda t, i: overflow if t < 7 else {})).state == "passed"
    assert judge("SG003", net(lambda t, i: overflow)).state == "skipped"


def test_unmeasured():
    assert judge("SG003", net(lambda t, i: {"stalled": None, "update_norm": None})).state == "skipped"
    assert judge("SG003", Measurements(SkipGraph((), layers=layers(4)))).state == "skipped"
    assert judge("SG003", Measurements(SkipGraph(()))).state == "not applicable"


def test_healthy():
    assert judge("SG003", healthy_residual()).state == "passed"
