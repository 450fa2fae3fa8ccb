import pytest

from skipgrad.boost import boost
from skipgrad.core import BadInput, Recipe, UnknownName
from skipgrad.core.rank import ranked
from skipgrad.race import Finished, Started
from train.toy import Net, Toy

DEEP = Toy(lambda: Net(blocks=6))


def test_remedies_are_raced_on_every_seed_and_ranked_with_the_lines_that_apply_them():
    events = []
    cures = boost(
        DEEP, Recipe(steps=20, lr=0.05), ["zero-init", "skip-calibration"], rates=[0.05], seeds=[0, 1],
        on_event=events.append, first_trial_id=7,
    )  # fmt: skip
    assert sorted(c.remedy for c in cures) == ["skip-calibration", "zero-init"]
    assert cures == ranked(cures)
    assert {c.seeds for c in cures} == {2}
    assert {c.rate for c in cures} == {0.05}
    assert all("model" in c.lines for c in cures)
    assert [e.trial.id for e in events if isinstance(e, Started)] == list(range(7, 13))
    assert sum(isinstance(e, Finished) for e in events) == 6


def test_the_default_grid_surrounds_the_typed_rate():
    events = []
    boost(DEEP, Recipe(steps=4, lr=0.03), ["zero-init"], seeds=[0], on_event=events.append)
    rates = {e.trial.rate for e in events if isinstance(e, Started)}
    assert sorted(rates) == pytest.approx([0.01, 0.03, 0.09])


def test_a_remedy_that_refuses_comes_last_with_its_reason():
    (only,) = boost(Toy(lambda: Net(skip=False)), Recipe(steps=3), ["zero-init"], rates=[0.05], seeds=[0])
    assert only.state == "refused"
    assert "skip" in only.reason


def test_names_are_checked_before_the_first_trial():
    events = []
    with pytest.raises(UnknownName, match="zero-init"):
        boost(DEEP, Recipe(steps=3), ["zero-initt"], on_event=events.append)
    with pytest.raises(BadInput, match="once"):
        boost(DEEP, Recipe(steps=3), ["zero-init", "zero-init"], on_event=events.append)
    assert events == []
