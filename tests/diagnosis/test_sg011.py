import math
from dataclasses import replace

import pytest

from diagnosis.rows import healthy_residual, judge, path_rows, residual_graph, spectrum
from skipgrad.core import Finding, Measurements, PathRow, PathSpectrum, SkipGraph

N = 20


def net(after: PathSpectrum | None, before: PathSpectrum | None = None, steps: int = 10, blocks: int = N) -> Finding:
    return judge("SG011", Measurements(residual_graph(blocks), paths=path_rows(before, after, steps)))


def test_half_of_all_branches_is_where_long_paths_begin():
    # b = 1: every path counts alike, and the mean is n/2.
    assert net(spectrum(N, 0.98)).state == "passed"
    finding = net(spectrum(N, 1.02))
    assert (finding.state, finding.severity, finding.where) == ("found", "info", ("b0",))
    assert finding.remedies == ("zero-init", "skip-calibration")
    assert finding.evidence["threshold"] == N / 2
    assert finding.evidence["mean_length"] == pytest.approx(N * 1.02**2 / (1 + 1.02**2), rel=1e-5)
    assert "of 20 branches" in finding.prescription


def test_a_shortcut_with_a_quarter_of_the_energy_is_a_warning():
    assert net(spectrum(N, 1.7)).severity == "info"
    assert net(spectrum(N, 1.76)).severity == "warning"


def test_before_the_first_step_nothing_is_judged():
    row = PathRow(0, spectrum(N, 3.0))
    finding = judge("SG011", Measurements(residual_graph(N), paths=(row,)))
    assert finding.state == "skipped"
    assert "18 of 20 branches" in finding.prescription


def test_a_gradient_that_goes_past_the_branches():
    # b = 0.06: a mean of 0.072 branches.
    finding = net(spectrum(N, 0.06), spectrum(N, 0.06))
    assert (finding.state, finding.severity) == ("found", "info")
    assert finding.remedies == ("skip-calibration",)
    assert finding.evidence["threshold"] == 0.1
    assert finding.evidence["share_past_all"] == pytest.approx(1 / (1 + 0.06**2) ** N, rel=1e-4)
    assert net(spectrum(N, 0.08), spectrum(N, 0.08)).state == "passed"


def test_a_gradient_of_which_nothing_goes_through_the_branches_is_a_warning():
    assert net(spectrum(N, 0.02), spectrum(N, 0.02)).severity == "warning"
    assert net(spectrum(N, 0.0), spectrum(N, 0.0)).severity == "warning"


def test_branches_that_wake_up_are_no_fault():
    # Zero-init: nothing at first, a little after some steps.
    assert net(spectrum(N, 0.02), spectrum(N, 0.0)).state == "passed"
    assert net(spectrum(N, 0.02), spectrum(N, 0.013)).state == "passed"
    assert net(spectrum(N, 0.02), spectrum(N, 0.015)).state == "found"


def test_after_too_few_steps_they_cannot_be_told_apart():
    assert net(spectrum(N, 0.02), spectrum(N, 0.02), steps=4).state == "skipped"
    assert net(spectrum(N, 0.02), spectrum(N, 0.02), steps=5).state == "found"
    # A net whose paths are as they should be needs no patience.
    assert net(spectrum(N, 0.5), steps=1).state == "passed"


def test_without_the_start_it_is_judged_all_the_same():
    assert net(spectrum(N, 0.02), None).state == "found"


def test_paths_that_cancel():
    cancelling = spectrum(N, 0.5, norms=(0.5,) * (N + 1))  # 10.5 altogether
    finding = net(cancelling)
    assert (finding.state, finding.severity, finding.remedies) == ("found", "info", ())
    assert finding.evidence["cancellation"] == pytest.approx(10.5)
    assert finding.evidence["threshold"] == 10
    assert net(replace(cancelling, norms=(0.47,) * (N + 1))).state == "passed"


@pytest.mark.parametrize("mean", [-3.0, N + 1.0])
def test_a_mean_that_no_path_has_is_cancelling_too(mean):
    assert "cancel" in net(spectrum(N, 0.5, mean_length=mean)).prescription


def test_the_mean_alone_is_enough():
    # What `check` measures of a net of more than 64 branches: c_0, and all the rest together.
    part = {"lengths": (0,), "longer_norm": 1.0, "longer_share": 0.9}
    far = spectrum(100, 2.0)
    finding = net(replace(far, norms=far.norms[:1], shares=far.shares[:1], **part), blocks=100)
    assert (finding.state, finding.severity) == ("found", "warning")
    assert finding.evidence["longest_path"] == 100
    assert "unsigned_mean_length" not in finding.evidence
    zero = spectrum(100, 0.0)
    past = replace(zero, norms=zero.norms[:1], shares=zero.shares[:1], lengths=(0,))
    finding = net(past, past, blocks=100)
    assert (finding.state, finding.evidence["longest_path"]) == ("found", 100)


def test_a_measurement_that_misses_its_own_sum_is_not_judged():
    assert net(spectrum(N, 3.0, residual=0.009)).state == "found"
    finding = net(spectrum(N, 3.0, residual=0.02))
    assert finding.state == "skipped"
    assert "2 %" in finding.prescription
    assert net(spectrum(N, 3.0, residual=math.nan)).state == "skipped"
    assert net(spectrum(N, 3.0, norms=(math.inf,) * (N + 1))).state == "skipped"


def test_what_was_not_measured_is_skipped_with_its_reason():
    assert "sg.path_spectrum" in judge("SG011", Measurements(residual_graph(N))).prescription
    finding = net(None, spectrum(N, 0.5))
    assert finding.state == "skipped"
    assert "odd" in finding.prescription


def test_nets_it_says_nothing_about():
    assert judge("SG011", Measurements(SkipGraph(()))).state == "not applicable"
    concat = Measurements(residual_graph(N, kind="concat"), paths=path_rows(None, spectrum(N, 3.0)))
    assert judge("SG011", concat).state == "not applicable"
    assert net(spectrum(7, 3.0), blocks=7).state == "not applicable"
    assert net(spectrum(8, 3.0), blocks=8).state == "found"
    # Twenty branches side by side, five behind each other.
    assert net(replace(spectrum(5, 3.0), branches=20)).state == "not applicable"


def test_healthy():
    finding = judge("SG011", healthy_residual())
    assert finding.state == "passed"
    assert finding.evidence["mean_length_at_start"] == pytest.approx(9 * 0.36 / 1.36, rel=1e-5)
