import math
import random
from dataclasses import replace

import pytest

from diagnosis.rows import healthy_residual, judge, layer_rows, layers, losses, residual_graph
from skipgrad.core import Layer, Measurements, SkipGraph
from skipgrad.diagnosis import diagnose

STEPS = range(60)


def noise(seed: int = 0, size: float = 0.05):
    rng = random.Random(seed)
    return lambda: rng.gauss(0, size)


def net(values, classes: int = 1, **change) -> Measurements:
    """Eight layers, the last with so many outputs, and the losses of a run."""
    graph = SkipGraph((), layers=(*layers(7), Layer("l7", "linear", (8, classes), "l")))
    steps = range(len(values))
    return Measurements(graph, layers=layer_rows(8, lambda t, i: change, steps=steps), losses=losses(values))


def falling(steps=STEPS, seed: int = 0):
    n = noise(seed)
    return [2.3 * 0.97**t + n() for t in steps]


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls_passes(seed):
    finding = judge("SG012", net(falling(seed=seed), 10))
    assert finding.state == "passed"
    assert "fell from" in finding.prescription


def test_steps_that_rewrite_a_layer_are_too_large_wherever_the_loss_stands():
    finding = judge(
        "SG012", net([math.log(10)] * 5 + [math.log(10) + 0.01 * (-1) ** t for t in range(40)], 10, update_norm=0.5)
    )
    assert finding.evidence["loss_is"] == "chance"
    assert finding.evidence["rate_factor"] < 0.02
    assert "lower the learning rate" in finding.prescription


def test_noise_over_a_loss_that_sends_nothing_back_is_no_rise():
    n = noise(size=60.0)
    values = [5600 + n() for _ in range(10)] + [5200 + n() for _ in range(8)] + [5600 + n() for _ in range(42)]
    finding = judge("SG012", net(values, weight_grad_norm=1e-6, update_norm=1e-3))
    assert "Next to nothing comes back from the loss itself" in finding.prescription
    assert "rate_factor" not in finding.evidence


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_at_chance(seed):
    n = noise(seed)
    finding = judge("SG012", net([math.log(10) + n() for _ in STEPS], 10))
    assert (finding.state, finding.severity) == ("found", "error")
    assert finding.evidence["loss_is"] == "chance"
    assert finding.evidence["loss_of_chance"] == pytest.approx(math.log(10), rel=1e-5)
    assert "always the same" in finding.prescription


def test_a_loss_that_falls_and_becomes_restless_is_none_that_stands_still():
    n = noise(1, 0.02)
    restless = [1.25, 1.75, 2.25, 1.75] * 5
    assert (
        judge("SG012", net([2.3 + n() for _ in range(10)] + [2.0 + n() for _ in range(10)] + restless, 10)).state
        == "passed"
    )
    # Where it was as restless from the start, nothing is sure.
    assert judge("SG012", net([v + 0.55 for v in restless] + restless, 10)).state == "found"


def test_a_fall_that_may_be_one_is_left_open():
    restless = [1.25, 1.75, 2.25, 1.75] * 5

    def after(fall: float):
        return judge("SG012", net([v + fall for v in restless] + restless, 7))

    assert [after(f).state for f in (0.8, 1.0, 1.3)] == ["found", "skipped", "passed"]
    assert "too little to tell whether it falls" in after(1.0).prescription


def test_the_level_of_the_class_prior_is_chance_where_it_is_known():
    # Nine in ten of one class: the entropy is .325, and a net that has learned the prior has learned nothing else.
    n = noise(size=0.02)
    values = [0.325 + 0.37 * 0.8**t + n() for t in STEPS]
    assert judge("SG012", net(values, 2)).state == "passed"
    finding = next(f for f in diagnose(net(values, 2), chance=0.325) if f.code == "SG012")
    assert (finding.state, finding.evidence["loss_is"]) == ("found", "chance")


def test_a_loss_that_is_still_on_its_way_past_the_prior_is_no_alarm():
    values = [5.5 - 0.03 * t for t in range(70)]  # 3.4 at the end, where a constant answer gets 3.2
    assert judge("SG012", replace(net(values, 256), chance=3.2)).state == "skipped"


def test_a_regression_that_stands_still():
    n = noise(size=0.1)
    finding = judge("SG012", net([5.0 + n() for _ in STEPS]))
    assert (finding.state, finding.evidence["loss_is"]) == ("found", "standing")


def test_a_blow_up_that_falls_back_to_chance():
    n = noise()
    values = [2.43, 6.7, 4.67, 3.1, *(2.31 + n() for _ in range(26))]
    assert judge("SG012", net(values, 10)).state == "found"


@pytest.mark.parametrize("after", [13.0, 7e4])
def test_a_loss_that_rose_and_stays_finite(after):
    values = [*falling(), *[after] * 25]
    finding = judge("SG012", net(values, 10))
    assert (finding.state, finding.severity, finding.evidence["loss_is"]) == ("found", "error", "worse")
    assert "rose and has not come back" in finding.prescription


def test_a_loss_that_lost_what_it_had_learned():
    n = noise(size=0.01)
    values = [*(2.3 * 0.9**t for t in range(60)), *(1.9 + n() for _ in range(25))]
    assert judge("SG012", net(values, 10)).evidence["loss_is"] == "relapsed"


def test_a_spike_is_forgiven_and_so_is_a_run_that_went_on_from_learned_weights():
    values = [*(2.3 * 0.9**t for t in range(60)), 5.0, *[0.01] * 20]
    assert judge("SG012", net(values, 10)).state == "passed"
    n = noise()
    assert judge("SG012", net([0.3 + n() for _ in range(30)], 10)).state == "passed"


def test_too_few_to_tell_slow_from_none():
    n = noise()
    assert judge("SG012", net([2.3 + n() for _ in range(12)], 10)).state == "skipped"
    assert judge("SG012", net([2.3 + n() for _ in range(5)], 10)).state == "skipped"
    # A constant shows sooner: no noise is that small.
    assert judge("SG012", net([5092.5] * 12)).state == "found"


def test_a_loss_that_is_not_handed_over_or_not_finite_is_skipped():
    finding = judge("SG012", Measurements(residual_graph(3)))
    assert finding.state == "skipped"
    assert "ledger.loss" in finding.prescription
    assert "SG010" in judge("SG012", net([1.0] * 20 + [math.nan])).prescription


def test_a_saturated_output_is_named_before_anything_behind_it():
    finding = judge("SG012", net([5092.5] * 30, weight_grad_norm=0.1))
    assert "saturated" in finding.prescription
    assert finding.where == ("l7",)
    assert finding.remedies == ()
    # Where the loss could still be moved it is not said.
    assert "saturated" not in judge("SG012", net([2.3] * 30, weight_grad_norm=0.1)).prescription


def test_a_net_whose_loss_is_dead_is_not_sent_to_its_skips():
    graph = residual_graph(9, trunk=("layer_norm",))
    rows = layer_rows(20, lambda t, i: {"out_grad_norm": 0.1 ** (20 - i), "weight_grad_norm": 1e-6}, range(30))
    measured = Measurements(graph, layers=rows, losses=losses([5092.5] * 30))
    for code in ("SG001", "SG007"):
        finding = judge(code, measured)
        assert finding.state == "found"
        assert finding.remedies == ()
        assert "SG012" in finding.prescription


def test_a_last_layer_whose_input_is_dead():
    measured = net([2.3] * 30, 10)
    rows = tuple(replace(r, weight_grad_norm=1e-12) if r.layer == "l7" else r for r in measured.layers)
    assert "next to nothing as its input" in judge("SG012", replace(measured, layers=rows)).prescription


def test_steps_that_are_too_small():
    finding = judge("SG012", net([2.3] * 30, update_norm=1e-9))
    assert "too small" in finding.prescription
    assert finding.evidence["rate_factor"] == pytest.approx(1e6)


def test_the_cause_that_another_check_knows_is_told():
    healthy = healthy_residual()
    rows = layer_rows(20, lambda t, i: {"out_grad_norm": 0.3 ** (20 - i)})
    finding = judge("SG012", replace(healthy, layers=rows, losses=losses([2.3] * 30)))
    assert "SG001 says what may be the cause" in finding.prescription
    assert finding.evidence["found_with"].startswith("SG001")
    assert finding.remedies[0] == "zero-init"
    assert "l0" in finding.where
