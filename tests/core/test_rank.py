"""The order of cures, and whose trial is the patient's."""

import math

import pytest

from skipgrad.core import Cure, Run, SkipRow, Trial
from skipgrad.core.rank import nearest, ranked, winner


def cure(name, state, seconds=None, best=1.0):
    return Cure(name, state, "", seconds_ratio=seconds, best_loss=best)


CURES = [
    cure("refused", "refused", best=None),
    cure("never", "no change", None, 0.1),
    cure("same", "no change", 1.0),
    cure("slow", "helped", 0.8),
    cure("fast", "helped", 0.5),
    cure("tie", "helped", 0.5, 0.9),
    cure("rescued", "helped", None, 0.01),
    cure("worse", "worse"),
]


def test_ranking_goes_by_state_then_time_then_loss():
    order = [c.remedy for c in ranked(CURES)]
    assert order == ["rescued", "tie", "fast", "slow", "same", "never", "worse", "refused"]


def test_the_winner_is_the_first_of_those_that_helped():
    assert winner(CURES).remedy == "rescued"
    assert winner(c for c in CURES if c.state != "helped") is None


def test_a_ratio_that_is_no_number_counts_as_none():
    assert [c.remedy for c in ranked([cure("nan", "worse", math.nan), cure("b", "worse", 2.0)])] == ["b", "nan"]


def test_the_one_worth_measuring_is_the_winner_or_came_nearest():
    assert nearest(CURES).remedy == "rescued"
    assert nearest(c for c in CURES if c.state != "helped").remedy == "same"
    assert nearest(c for c in CURES if c.state == "refused") is None
    assert nearest([cure("diverged", "worse", best=None)]) is None


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([Trial(3, "x", 0.1, 0, 9, measured=True), Trial(4, None, 0.1, 0, 9), Trial(5, None, 0.1, 0, 9, True)], 5),
        ([Trial(3, "x", 0.1, 0, 9), Trial(4, None, 0.1, 0, 9)], 4),
        ([Trial(3, "x", 0.1, 0, 9)], None),
        ([], None),
    ],
)
def test_the_patients_trial_is_its_measured_one(trials, expected):
    patient = Run({}, trials=tuple(trials)).patient()
    assert (patient and patient.id) == expected


def test_rows_without_a_record_of_their_trial_are_the_patients():
    row = SkipRow(0, 0, "a", 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0)
    assert Run({}, skip_rows={7: (row,)}).measurements().skips == (row,)
    assert Run({}).patient_id() == 0
