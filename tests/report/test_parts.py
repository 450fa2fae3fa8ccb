"""The parts of a report: what is said, from which numbers, and that nothing stops it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from report import synthetic
from skipgrad.core import LayerRow, LossPoint, Run, Skip, SkipRow, Trial
from skipgrad.core.draw.strip import arc_heights
from skipgrad.diagnosis import diagnose
from skipgrad.report import parts
from skipgrad.report.evidence import evidence
from skipgrad.report.floor import floor
from skipgrad.report.subjects import share, skip_norms, subjects
from skipgrad.report.text import clean, figure, sample, times

RUNS = ("plain56", "standstill", "healthy", "resnet152_sick", "unet", "interrupted", "nothing", "all_nan", "hostile")


def test_the_verdict_carries_the_figures_of_the_sick_run() -> None:
    p = parts(synthetic.plain56())
    assert p.headline.state == "error"
    assert "vanishing gradient (SG001) and 2 more findings" in p.headline.sentence
    assert "0.047× the steps (0.042–0.053×) and 0.055× the seconds (0.049–0.061×)" in p.headline.sentence
    gradient, steps, seconds = p.headline.figures
    assert gradient.value.endswith("×10⁻¹²")
    assert "relative to the last" in gradient.label
    assert (steps.value, steps.detail) == ("0.047×", "0.042–0.053× over 3 seeds")
    assert seconds.value == "0.055×"
    assert p.winner == "add-skips"
    assert 'sg.remedy("add-skips")' in p.lines


def test_evidence_says_what_it_is_relative_to() -> None:
    card = parts(synthetic.plain56()).cards[0]
    assert dict(card.evidence)["gradient of the first layers / the last ones'"] == "1.4×10⁻¹²"
    assert dict(card.evidence)["factor a layer, going back"] == "0.61×"
    assert dict(card.evidence)["threshold"] == "0.001"
    assert evidence({"first_to_last": "inf", "rho": math.nan, "what": None, "layers": 1200}) == (
        ("gradient of the first layers / the last ones'", "inf"),
        ("ρ, branch to skip over the whole net", "NaN"),
        ("layers", "1,200"),
    )


def test_a_healthy_run_is_called_healthy_and_unjudged_checks_are_not_called_passed() -> None:
    p = parts(synthetic.healthy())
    assert p.headline.state == "passed"
    assert "all 9 checks that could judge it passed" in p.headline.sentence
    states = {m.code: m.state for m in p.marks}
    assert states["SG008"] == "not applicable"
    assert states["SG009"] == "skipped"
    assert any("SG009" in sentence and "skipped" in sentence for sentence in p.not_understood)
    assert p.missing == ()


def falls(run: Run) -> Run:
    """The patient's loss falls."""
    return replace(run, losses=tuple(LossPoint(0, t, 2.3 * 0.97**t, 0.1 * t) for t in range(100)))


def stands(run: Run) -> Run:
    """The patient's loss stands still."""
    return replace(run, losses=tuple(LossPoint(0, t, 2.3 + 0.01 * (-1) ** t, 0.1 * t) for t in range(100)))


def graded(run: Run, severity: str) -> Run:
    """All that was found has one severity."""
    return replace(run, findings=tuple(replace(f, severity=severity) for f in run.findings))


def test_the_headline_is_about_what_was_learned() -> None:
    healthy, hint = falls(synthetic.healthy()), falls(graded(synthetic.resnet152_sick(), "info"))
    assert "Nothing is the matter" in parts(healthy).headline.sentence
    assert "learned (loss 2.01 to 0.163)" in parts(healthy).headline.sentence
    assert "nothing needs doing; worth knowing" in parts(hint).headline.sentence
    assert "has a problem" not in parts(hint).headline.sentence
    grave = parts(falls(synthetic.resnet152_sick())).headline.sentence
    assert "learned (loss" in grave
    assert "and has a problem" in grave


def test_a_run_that_did_not_learn_is_never_called_well() -> None:
    for run in (synthetic.healthy(), graded(synthetic.resnet152_sick(), "info")):
        headline = parts(stands(run)).headline
        assert headline.state == "warning"
        assert "did not learn" in headline.sentence
        assert "Nothing" not in headline.sentence


def test_where_nobody_knows_whether_it_learns_the_headline_says_so() -> None:
    none = replace(synthetic.healthy(), losses=())
    assert "whether it learns is not known, as no losses were given" in parts(none).headline.sentence
    few = replace(none, losses=tuple(LossPoint(0, t, 2.3, 0.1) for t in range(3)))
    assert "not known after 3 steps" in parts(few).headline.sentence


def test_whether_it_learns_is_told_before_graver_findings() -> None:
    run = synthetic.resnet152_sick()
    loss = replace(run.findings[0], code="SG012", title="Loss that does not fall", state="found", severity="warning")
    p = parts(replace(run, findings=(*run.findings, loss)))
    assert "loss that does not fall (SG012) and 2 more findings" in p.headline.sentence
    assert [c.code for c in p.cards] == ["SG012", "SG006", "SG005"]


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_all_its_parts(name: str) -> None:
    p = parts(getattr(synthetic, name)())
    assert p.headline.sentence.endswith(".")
    assert p.facts


def test_what_is_missing_is_said() -> None:
    assert parts(synthetic.interrupted()).missing == (
        "The run was interrupted.",
        "It was not diagnosed.",
        "No remedy was tried.",
        "Trial 0 (patient, learning rate 0.1, seed 0) interrupted.",
    )
    assert "interrupted after 45 steps" in parts(synthetic.interrupted()).headline.sentence
    said = parts(synthetic.nothing()).missing
    assert "The run failed: ModelError: the forward raised." in said
    assert "No loss was recorded." in said
    empty = parts(Run({}))
    assert "The model was not diagnosed" in empty.headline.sentence


def test_an_unhelped_patient_is_not_called_cured() -> None:
    run = synthetic.plain56()
    cures = tuple(replace(c, state="no change") for c in run.cures)
    p = parts(replace(run, cures=cures))
    assert p.winner == ""
    assert p.lines == ""
    assert "none of the remedies tried helped (add-skips, clip, warm-up, skip-calibration)" in p.headline.sentence
    assert [s.who for s in p.strips.strips] == ["patient", "with add-skips"]


def test_a_patient_that_does_not_train_has_losses_and_no_ratio() -> None:
    p = parts(synthetic.standstill())
    assert p.headline.sentence.endswith(
        "; the patient does not train: its loss is 2.3 at its best and 2.32 at first; "
        "with add-skips the loss falls to 0.12 in the same 200 steps."
    )
    _, loss = p.headline.figures
    assert (loss.value, loss.label) == ("2.3 → 0.12", "best training loss, patient → add-skips")
    assert loss.detail == "median over 3 seeds, smoothed; the patient does not train: 2.32 at first"
    assert {(c.steps, c.seconds) for c in p.cures} == {("–", "–")}
    assert p.cards[0].cures == ("add-skips helped, best loss 0.12 (patient 2.3)",)
    assert p.losses.best is None
    assert "×" not in p.headline.sentence.replace("×10", "")


def test_a_patient_that_does_not_train_and_no_cure_that_helps() -> None:
    run = synthetic.standstill()
    cures = tuple(replace(c, state="no change") for c in run.cures)
    sentence = parts(replace(run, cures=cures)).headline.sentence
    assert "2.32 at first; none of the remedies tried helped" in sentence


def test_the_headline_says_what_sg001_measured() -> None:
    # Thirteen layers with closed branches at both ends: the median of three is far from what reaches that depth.
    norms = [0.1, 1e-4, 1e-4, *[0.5] * 7, 1e-3, 1.0, 1e-3]
    rows = [LayerRow(s, f"l{d}", d, g * 10**s, 1.0, 1.0, None, None) for s in range(3) for d, g in enumerate(norms)]
    run = Run({}, trials=(Trial(0, None, 0.1, 0, 3, measured=True),), layer_rows={0: tuple(rows)})
    [found] = [f for f in diagnose(run) if f.code == "SG001"]
    gradient, *_ = parts(run).headline.figures
    assert found.evidence["first_to_last"] == pytest.approx(0.1)
    assert gradient.value == times(found.evidence["first_to_last"])
    assert gradient.detail == "‖dL/dz‖, median of 3 measured steps"
    assert "the gradient reaching its first layers is 0.1 times that at the last" in parts(run).headline.sentence


def test_without_a_profile_the_headline_says_why() -> None:
    rows = tuple(LayerRow(0, f"l{d}", d, 1.0, 1.0, 1.0, None, None) for d in range(3))
    run = Run({}, trials=(Trial(0, None, 0.1, 0, 3, measured=True),), layer_rows={0: rows})
    gradient, *_ = parts(run).headline.figures
    assert (gradient.value, gradient.detail) == ("–", "3 layers get a gradient, fewer than 4")


def test_the_backwards_of_one_step_count_together() -> None:
    row = SkipRow(0, 0, "a", 3.0, 1.0, 4.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0)
    run = Run({}, skip_rows={0: (row, replace(row, micro=1, skip_norm=4.0))})
    assert skip_norms(subjects(run)[0]) == {(0, "a"): (5.0, pytest.approx(math.sqrt(2)))}


@pytest.mark.parametrize(
    ("s", "b", "expected"),
    [
        (1.0, 1.0, 0.5),
        (0.0, 1.0, 0.0),
        (1e-200, 1e-200, 0.5),
        (0.0, 0.0, None),
        (math.nan, 1.0, None),
        (math.inf, 1, None),
    ],
)
def test_share(s: float, b: float, expected: float | None) -> None:
    assert share(s, b) == (None if expected is None else pytest.approx(expected))


def test_the_floor_is_where_float32_stops_moving() -> None:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, 20_000).astype("float32")
    norm = float(np.linalg.norm(weights))
    row = LayerRow(0, "w", 0, 1.0, norm, 1.0, None, None)
    limit = floor(row, 0.1, "sgd")
    assert limit is not None

    def moved(gradient_norm: float) -> float:
        step = np.float32(0.1) * np.full_like(weights, gradient_norm / math.sqrt(weights.size))
        return float(np.mean(weights - step != weights))

    # Weights near zero are finer than those at the mean, so the floor is a middle, not an edge.
    assert moved(limit / 30) < 0.06
    assert moved(limit * 8) > 0.99


def test_the_floor_takes_the_rate_from_the_measured_step() -> None:
    row = LayerRow(0, "w", 0, 1.0, 2.0, 1e-3, 1e-4, 0.0)
    assert floor(row, 99.0, "adam") == pytest.approx(2.0 * 2**-24 / 0.1)
    assert floor(replace(row, update_norm=None), 0.01, "sgd") == pytest.approx(2.0 * 2**-24 / 0.01)
    assert floor(replace(row, update_norm=None), 0.01, "adam") is None  # its step is not the rate times the gradient
    assert floor(replace(row, dtype="bfloat16"), None, "") == pytest.approx(2.0 * 2**-8 / 0.1)
    assert floor(replace(row, dtype="int8"), None, "") is None


def test_arcs_lie_above_what_they_hold() -> None:
    def skip(start: int, end: int) -> Skip:
        return Skip(f"{start}-{end}", "add", "identity", False, 1, 2, (("a",),), (1,), (1,), start=start, end=end)

    skips = [skip(0, 20), skip(2, 4), skip(1, 10), skip(4, 6), skip(12, 18)]
    whole, small, middle, other, long = arc_heights(skips, 20.0)
    assert whole > middle > small == other
    assert whole > long > small
    many = [skip(0, n + 1) for n in range(60)]
    heights = arc_heights(many, 18.0)
    assert heights == sorted(heights)
    assert heights[-1] <= 190.0


def test_steps_are_sampled_with_both_ends() -> None:
    run = synthetic.healthy()
    rows = synthetic.skip_rows(run.graph, tuple(range(1000)))  # type: ignore[arg-type]
    p = parts(replace(run, skip_rows={0: rows}, layer_rows={0: ()}))
    assert (p.strips.steps[0], p.strips.steps[-1], len(p.strips.steps)) == (0, 999, 40)
    assert p.strips.measured == 1000
    assert p.heat is not None
    assert (p.heat.all_steps, len(p.heat.steps)) == (1000, 40)
    assert sample([1, 2, 3], 5) == [1, 2, 3]


def test_figures_are_written_as_people_write_them() -> None:
    assert figure(1.234e-12) == "1.23×10⁻¹²"
    assert figure(1e-7, 1) == "10⁻⁷"
    assert figure(math.nan) == "NaN"
    assert figure(None) == "–"
    assert times(0.0471) == "0.047×"
    assert times(10.0) == "10×"
    assert times(2e-12) == "2.0×10⁻¹²"


def test_names_cannot_steer_a_terminal() -> None:
    assert clean("a\x1b[31mb\u202ec\r") == "a�[31mb�c�"
