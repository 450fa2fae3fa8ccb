import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipgrad.core import BadInput, LossPoint, Trial
from skipgrad.race import compare, judge_seeds, noise, smoothed, trains, window
from skipgrad.train import TrialResult


def result(losses, seed=0, remedy=None, state="done", steps=None, pace=0.1, lines=""):
    trial = Trial(0, remedy, 0.1, seed, steps or len(losses), state=state)
    return TrialResult(trial, tuple(LossPoint(0, i, v, pace * (i + 1)) for i, v in enumerate(losses)), lines)


def fall(rate, steps=100, start=2.0, floor=0.0):
    return [floor + (start - floor) * math.exp(-rate * i) for i in range(steps)]


def test_the_running_mean_is_a_twentieth_of_the_steps_and_at_least_three():
    assert [window(n) for n in (1, 2, 3, 60, 100, 400)] == [1, 2, 3, 3, 5, 20]
    assert smoothed(result([3.0, 0.0, 3.0, 6.0])) == [2.0, 3.0]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=90))
def test_smoothing_agrees_with_the_plain_mean_of_each_window(losses):
    wide = window(len(losses))
    slow = [sum(losses[i - wide + 1 : i + 1]) / wide for i in range(wide - 1, len(losses))]
    assert smoothed(result(losses)) == pytest.approx(slow)


def test_a_cure_twice_as_fast_on_every_seed_helped():
    patient = [result(fall(0.03), seed) for seed in range(3)]
    cure = [result(fall(0.06), seed, lines="apply()") for seed in range(3)]
    verdict = compare(patient, cure, "zero-init")
    assert verdict.state == "helped"
    assert verdict.steps_ratio == pytest.approx(0.5, abs=0.03)
    assert verdict.seconds_ratio == pytest.approx(0.5, abs=0.03)
    assert verdict.steps_spread[0] == verdict.steps_spread[1]
    assert (verdict.seeds, verdict.lines, verdict.remedy) == (3, "apply()", "zero-init")
    assert "3 seeds" in verdict.reason
    assert "0.5" in verdict.reason


def test_a_cure_that_saves_steps_and_loses_time_shows_both():
    verdict = compare([result(fall(0.03))], [result(fall(0.06), pace=0.3)], "x")
    assert verdict.steps_ratio == pytest.approx(0.5, abs=0.03)
    assert verdict.seconds_ratio == pytest.approx(1.5, abs=0.08)


def test_the_same_trial_is_no_change():
    trials = [result(fall(0.03), seed) for seed in range(3)]
    verdict = compare(trials, trials, "nothing")
    assert (verdict.state, verdict.steps_ratio, verdict.steps_spread) == ("no change", 1.0, (1.0, 1.0))


def test_one_bad_seed_of_three_is_not_helped():
    patient = [result(fall(0.03), seed) for seed in range(3)]
    cure = [result(fall(rate), seed) for seed, rate in enumerate((0.06, 0.06, 0.029))]
    verdict = compare(patient, cure, "x")
    assert verdict.state == "no change"
    assert verdict.steps_ratio == pytest.approx(0.5, abs=0.03)
    assert "never on 1" in verdict.reason


def test_never_reaching_it_by_a_clear_lag_is_worse_and_has_no_ratio():
    patient = [result(fall(0.05), seed) for seed in range(3)]
    cure = [result(fall(0.02), seed) for seed in range(3)]
    verdict = compare(patient, cure, "x")
    assert (verdict.state, verdict.steps_ratio, verdict.steps_spread) == ("worse", None, None)
    assert "no seed" in verdict.reason


def test_missing_it_by_a_hair_is_no_change():
    patient = [result(fall(0.05), seed) for seed in range(3)]
    cure = [result([v * 1.001 for v in fall(0.05)], seed) for seed in range(3)]
    assert compare(patient, cure, "x").state == "no change"


def test_being_early_at_a_slightly_higher_plateau_does_not_help():
    verdict = compare([result(fall(0.05, floor=0.5))], [result(fall(0.3, 20, floor=0.56) + [0.57] * 80)], "x")
    assert (verdict.state, verdict.steps_ratio) == ("no change", None)


def test_a_plateau_the_patient_never_leaves_is_a_clear_margin():
    # The patient's best comes at once and by chance; the cure passes it late and goes far below.
    patient = [result([2.3, 2.29, 2.28] + [2.30] * 97, seed) for seed in range(3)]
    cure = [result([2.35] * 20 + fall(0.05, 80, 2.3), seed) for seed in range(3)]
    verdict = compare(patient, cure, "x")
    assert verdict.state == "helped"
    assert not verdict.patient_trains
    assert (verdict.steps_ratio, verdict.seconds_ratio, verdict.steps_spread, verdict.seconds_spread) == (None,) * 4
    assert verdict.reason.startswith(
        "The patient does not train: 2.29 at its best, 2.29 at first; here the best loss is"
    )


def test_a_clearly_lower_loss_decides_over_more_steps_to_an_early_plateau():
    patient = [result([2.3 - 0.03 * min(i, 10) for i in range(100)], seed) for seed in range(3)]
    verdict = compare(patient, [result([2.3 - 0.02 * i for i in range(100)], seed) for seed in range(3)], "x")
    assert verdict.patient_trains
    assert verdict.steps_ratio > 1
    assert verdict.state == "helped"
    assert "clearly lower" in verdict.reason


def test_where_patient_and_cure_both_stand_still_a_chance_low_is_no_help():
    patient = [result(restless(2.3, 0.01, seed), seed) for seed in range(3)]
    cure = [result([v - 0.01 for v in restless(2.3, 0.01, 9 + seed)], seed) for seed in range(3)]
    verdict = compare(patient, cure, "x")
    assert (verdict.state, verdict.patient_trains, verdict.steps_ratio) == ("no change", False, None)
    assert "no fall either" in verdict.reason


def restless(level, spread, seed, steps=100, slope=0.0):
    rng = random.Random(seed)
    return [level + slope * i + rng.gauss(0, spread) for i in range(steps)]


@pytest.mark.parametrize("steps", [12, 60, 100, 400])
def test_a_flat_restless_loss_does_not_train_whatever_its_scale_and_length(steps):
    told = [trains(result(restless(2.3, spread, seed, steps))) for seed in range(40) for spread in (1e-3, 0.05, 0.5)]
    assert sum(told) <= 6  # one in twenty: a chance low, or, of 12 losses, a chance calm


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.3] * 100, False),
        ([2.3 - 1e-6 * i for i in range(100)], False),  # falls, and nobody could tell
        (restless(2.3, 0.05, 1, slope=-0.005), True),  # slowly: its whole fall is ten times its noise
        (fall(0.03), True),
        ([2.3, 1.0, 0.5, 0.3, 0.2, 0.15, *[0.1] * 94], True),  # steep is not restless
        ([*fall(0.1, 50), *reversed(fall(0.1, 50))], True),  # falls, then returns
        ([2.3, 5.0, 40.0, 900.0, 1e5, 1e8, math.inf], False),  # diverged
        ([*fall(0.1, 50), 9.0, 1e4, math.nan], True),  # trained before it diverged
        ([2.3, math.nan], False),
        ([], False),
    ],
)
def test_a_loss_trains_when_it_fell_by_more_than_its_noise(losses, expected):
    assert trains(result(losses, steps=100)) is expected


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_whether_it_trains_does_not_depend_on_the_units_of_the_loss(factor):
    for losses in (restless(2.3, 0.05, 3), fall(0.03)):
        assert trains(result([factor * v for v in losses])) is trains(result(losses))


def test_the_noise_is_that_of_a_normal_about_any_line():
    losses = restless(5.0, 0.2, 4, steps=4000, slope=-0.001)
    assert noise(losses) == pytest.approx(0.2, rel=0.05)
    assert noise([1.0, math.nan]) == 0.0


def test_a_cure_that_diverges_is_worse_even_if_it_was_ahead():
    patient = [result(fall(0.03), seed) for seed in range(2)]
    cure = [result([*fall(0.2, 60), math.nan], seed, state="diverged", steps=100) for seed in range(2)]
    verdict = compare(patient, cure, "x")
    assert (verdict.state, verdict.steps_ratio, verdict.final_loss) == ("worse", None, None)
    assert verdict.reason.startswith("Diverged on 2 of 2")


def test_a_cure_that_trains_where_the_patient_diverges_helped():
    patient = [result([2.3, 5.0, 40.0, 900.0, math.inf], state="diverged", steps=100)]
    verdict = compare(patient, [result(fall(0.03))], "x")
    assert verdict.state == "helped"
    assert "patient diverged" in verdict.reason


def test_both_diverged_is_no_change():
    fallen = [result([2.3, math.nan], state="diverged", steps=100)]
    verdict = compare(fallen, fallen, "x")
    assert (verdict.state, verdict.best_loss, verdict.patient_final_loss) == ("no change", None, None)


def test_seeds_are_paired_and_strangers_left_out():
    patient = [result(fall(0.03), seed) for seed in (0, 1, 2)]
    cure = [result(fall(0.06), seed) for seed in (2, 7)]
    assert [v.seed for v in judge_seeds(patient, cure)] == [2]
    assert "one seed only" in compare(patient, cure, "x").reason
    with pytest.raises(BadInput, match="same seeds"):
        compare(patient[:1], cure, "x")


@given(st.lists(st.floats(0, 5), min_size=20, max_size=60), st.lists(st.floats(0, 5), min_size=20, max_size=60))
def test_any_two_curves_get_a_verdict_and_swapping_never_calls_both_helped(one, two):
    length = min(len(one), len(two))
    a, b = result(one[:length]), result(two[:length])
    forth, back = compare([a], [b], "x"), compare([b], [a], "x")
    assert not (forth.state == back.state == "helped")
    assert not (forth.state == back.state == "worse")


def test_the_final_loss_is_the_mean_of_the_last_tenth():
    verdict = compare([result([1.0] * 18 + [0.5, 0.1])], [result([1.0] * 18 + [0.2, 0.2])], "x")
    assert (verdict.patient_final_loss, verdict.final_loss) == (pytest.approx(0.3), pytest.approx(0.2))
