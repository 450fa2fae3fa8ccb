import math

import pytest
import torch

from skipgrad.core import BadInput, ModelError, Recipe, RemedyRefused
from skipgrad.race import Dropped, Finished, Noted, Started, Stepped, compare, race, score
from skipgrad.train import train_trial
from train.toy import Net, Scaled, Toy

SHORT = Recipe(steps=8)


def half(model):
    return Scaled(model, 0.5)


def untouched_model(model):
    return None


def test_everyone_gets_every_rate_on_the_first_seed_and_the_best_on_the_others_in_turn():
    events = []
    result = race(
        Toy(), SHORT, {"half": half, "none": untouched_model}, rates=[0.01, 0.1], seeds=[4, 5, 6],
        on_event=events.append, first_trial_id=3,
    )  # fmt: skip
    order = [(e.trial.remedy, e.trial.rate, e.trial.seed) for e in events if isinstance(e, Started)]
    best = result.rates
    assert order[:6] == [(name, rate, 4) for rate in (0.01, 0.1) for name in (None, "half", "none")]
    assert order[6:] == [(name, best[name], seed) for seed in (5, 6) for name in (None, "half", "none")]
    assert [e.trial.id for e in events if isinstance(e, Started)] == list(range(3, 15))
    assert next(e.result for e in events if isinstance(e, Finished)) == result.patient[0]
    assert sum(isinstance(e, Stepped) for e in events) == 12 * 8
    assert {r.trial.steps for trials in (result.patient, *result.cures.values()) for r in trials} == {8}
    assert [r.trial.seed for r in result.best("half")] == [4, 5, 6]


def test_a_race_gives_the_bits_of_single_trials_and_a_cure_that_does_nothing_changes_nothing():
    result = race(Toy(), SHORT, {"none": untouched_model}, rates=[0.1], seeds=[0, 1])
    alone = train_trial(Toy(), Recipe(steps=8, lr=0.1, seed=1))
    assert [p.loss for p in result.best()[1].losses] == [p.loss for p in alone.losses]
    cure = compare(result.best(), result.best("none"), "none")
    assert (cure.state, cure.steps_ratio) == ("no change", 1.0)


def test_the_best_rate_is_the_lowest_loss_and_a_divergence_counts_as_infinite():
    result = race(Toy(), Recipe(steps=30), {}, rates=[1e-4, 0.05, 1e30], seeds=[0, 1])
    assert result.rates == {None: 0.05}
    assert [r.trial.state for r in result.patient] == ["done", "done", "diverged", "done"]
    assert score(result.patient[2]) == math.inf
    assert result.notes == ()


def test_a_best_rate_at_the_edge_is_noted():
    events = []
    result = race(Toy(), Recipe(steps=30), {}, rates=[1e-5, 1e-4], seeds=[0], on_event=events.append)
    assert events[-1] == Noted(result.notes[0])
    assert "the patient, 0.0001, is the highest of the grid" in result.notes[0]


def test_a_cure_that_refuses_is_dropped_with_its_reason_and_never_starts():
    def refuse(model):
        raise RemedyRefused("applying zero-init", received="a model without skips", todo="use add-skips first")

    events = []
    result = race(Toy(), SHORT, {"no": refuse, "half": half}, rates=[0.1], seeds=[0, 1], on_event=events.append)
    assert result.dropped == {"no": "applying zero-init; a model without skips; use add-skips first"}
    assert list(result.cures) == ["half"]
    assert sum(isinstance(e, Dropped) for e in events) == 1
    assert {e.trial.remedy for e in events if isinstance(e, Started)} == {None, "half"}
    ids = [e.trial.id for e in events if isinstance(e, Started)]
    assert ids == list(range(len(ids)))


def test_a_cure_that_breaks_the_model_is_dropped_and_its_trial_closed():
    def spoil(model):
        model.head = torch.nn.Linear(5, 3)

    events = []
    result = race(Toy(), SHORT, {"spoil": spoil}, rates=[0.1], seeds=[0], on_event=events.append)
    assert "running the forward of toy" in result.dropped["spoil"]
    finished = [e.result.trial for e in events if isinstance(e, Finished)]
    assert [(t.remedy, t.state) for t in finished] == [(None, "done"), ("spoil", "interrupted")]


def test_a_patient_that_breaks_is_the_users_to_mend():
    def broken():
        net = Net()
        net.head = torch.nn.Linear(5, 3)
        return net

    with pytest.raises(ModelError):
        race(Toy(broken), SHORT, {"half": half}, rates=[0.1], seeds=[0])


def test_an_interrupt_loses_no_step():
    finished, points = [], []

    def on_event(event):
        if isinstance(event, Finished):
            finished.append(event.result)
        if isinstance(event, Stepped):
            points.append(event.point)
            if len(points) == 11:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        race(Toy(), SHORT, {"half": half}, rates=[0.1], seeds=[0], on_event=on_event)
    assert [r.trial.state for r in finished] == ["done", "interrupted"]
    assert [len(r.losses) for r in finished] == [8, 3]


@pytest.mark.parametrize(
    "kwargs", [{"rates": [], "seeds": [0]}, {"rates": [0.1, 0.1], "seeds": [0]}, {"rates": [0.1], "seeds": []}]
)
def test_an_empty_or_doubled_grid_is_refused(kwargs):
    with pytest.raises(BadInput):
        race(Toy(), SHORT, {}, **kwargs)


def test_a_bad_rate_is_refused_before_the_first_trial():
    events = []
    with pytest.raises(BadInput):
        race(Toy(), SHORT, {}, rates=[0.1, -1.0], seeds=[0], on_event=events.append)
    assert events == []
