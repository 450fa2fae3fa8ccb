import dataclasses
import math

from diagnosis.rows import healthy_residual, judge, losses, residual_graph
from skipgrad.core import Measurements


def spoil(rows, test, **changes):
    return tuple(dataclasses.replace(r, **changes) if test(r) else r for r in rows)


def test_loss():
    sick = dataclasses.replace(healthy_residual(), losses=losses([2.0, 1.0, math.nan]))
    finding = judge("SG010", sick)
    assert (finding.state, finding.severity) == ("found", "error")
    assert finding.evidence["what"] == "loss"
    assert finding.evidence["first_step"] == 2
    assert finding.evidence["loss_before"] == 1


def test_forward_comes_before_backward_and_from_the_input_on():
    m = healthy_residual()
    sick = dataclasses.replace(
        m,
        skips=spoil(m.skips, lambda r: r.step >= 4 and r.skip >= "b3", branch_rms=math.inf, finite=False),
        layers=spoil(m.layers, lambda r: r.step >= 4, out_grad_norm=math.nan, finite=False),
    )
    finding = judge("SG010", sick)
    assert finding.evidence["what"] == "activation"
    assert finding.evidence["first_step"] == 4
    assert finding.where[0] == finding.evidence["first_place"] == "b3"


def test_backward_comes_from_the_output():
    m = healthy_residual()
    sick = dataclasses.replace(
        m, layers=spoil(m.layers, lambda r: r.step >= 5 and r.depth <= 7, out_grad_norm=math.inf, finite=False)
    )
    finding = judge("SG010", sick)
    assert finding.evidence["what"] == "gradient"
    assert finding.where[0] == "l7"


def test_a_weight_that_is_lost():
    m = healthy_residual()
    sick = dataclasses.replace(
        m, layers=spoil(m.layers, lambda r: r.step >= 5 and r.depth == 2, weight_norm=math.nan, finite=False)
    )
    assert judge("SG010", sick).evidence["what"] == "weight"


def test_the_flag_alone_is_enough():
    m = healthy_residual()
    sick = dataclasses.replace(m, skips=spoil(m.skips, lambda r: r.step >= 7, finite=False), losses=())
    assert judge("SG010", sick).state == "found"


def test_a_run_that_recovers_is_a_warning():
    m = healthy_residual()
    scaler = dataclasses.replace(m, layers=spoil(m.layers, lambda r: r.step < 2, out_grad_norm=math.inf, finite=False))
    finding = judge("SG010", scaler)
    assert (finding.state, finding.severity) == ("found", "warning")
    assert "recovered" in finding.prescription


def test_what_is_there_before_any_step_is_not_the_rates():
    m = dataclasses.replace(healthy_residual(), losses=losses([math.nan] * 10))
    finding = judge("SG010", m)
    assert "not to blame: that is before any step" in finding.prescription
    assert finding.remedies == ()
    assert "rate_factor" not in finding.evidence


def test_a_loss_that_is_lost_after_calm_steps_is_not_the_rates():
    m = dataclasses.replace(healthy_residual(), losses=losses([2.0, 1.5, 1.2, 1.0, *[math.nan] * 6]))
    finding = judge("SG010", m)
    assert "not to blame" in finding.prescription
    # A step that rewrote a layer, or a loss that was on its way up, is what a rate does.
    wild = dataclasses.replace(m, layers=spoil(m.layers, lambda r: r.step == 3, update_norm=5.0))
    assert judge("SG010", wild).evidence["rate_factor"] < 0.01
    risen = dataclasses.replace(m, losses=losses([2.0, 3.0, 9.0, 90.0, *[math.nan] * 6]))
    assert "lower the learning rate to 0.1 of what it is" in judge("SG010", risen).prescription


def test_what_others_found_is_mended_before_the_rate():
    m = healthy_residual()
    grown = spoil(m.skips, lambda r: True)
    grown = tuple(dataclasses.replace(r, x_rms=r.x_rms * 4.0 ** int(r.skip[1:])) for r in grown)
    finding = judge("SG010", dataclasses.replace(m, skips=grown, losses=losses([math.nan] * 10)))
    assert "Mend first what SG009 found" in finding.prescription
    assert "rate_factor" not in finding.evidence
    assert finding.remedies[0] == "zero-init"


def test_nothing_measured_is_skipped_and_healthy_passes():
    assert judge("SG010", Measurements(residual_graph(3))).state == "skipped"
    assert judge("SG010", healthy_residual()).state == "passed"


def test_a_size_that_was_not_read_is_no_alarm_and_an_activation_that_is_nan_is_one():
    m = healthy_residual()
    unread = dataclasses.replace(m, skips=spoil(m.skips, lambda r: r.skip == "b3", branch_rms=math.nan))
    assert judge("SG010", unread).state == "passed"
    # Every gradient is finite, as where the loss leaves out what is NaN.
    lost = dataclasses.replace(m, skips=spoil(m.skips, lambda r: r.skip == "b3", x_rms=math.nan))
    finding = judge("SG010", lost)
    assert (finding.state, finding.evidence["what"], finding.evidence["first_place"]) == ("found", "activation", "b3")
