import csv
import json

import pytest

from skipgrad.core import BadInput
from skipgrad.core.account import Account, Cost
from skipgrad.core.training import TrainingRecipe
from skipgrad.store import read_latest, read_run
from skipgrad.train.job import TrainOptions, train
from skipgrad.train.job.pace import FIRST, PLAIN, WARM, Pace
from train.job.test_train import NETS


class Ledger:
    every = 0


def measured(pace, seconds, steps=2000):
    """The steps that are measured when a measured step takes so long and a plain one takes 10 ms."""
    ledger, out = Ledger(), []
    for step in range(steps):
        pace.before(ledger, step)
        chosen = step % ledger.every == 0
        out += [step] * chosen
        pace.after(step, seconds if chosen else 0.01)
    return out


def test_steps_are_chosen_so_that_measuring_costs_its_share_and_no_more():
    steps = measured(Pace(None, 20_000), 0.03, 20_000)
    assert steps[:FIRST] == list(range(FIRST))
    assert not any(FIRST <= s < FIRST + PLAIN for s in steps)
    assert 0.02 * len(steps) <= 0.01 * 0.01 * 20_000 + 1.0 + 0.02 * FIRST
    gaps = {b - a for a, b in zip(steps[FIRST:], steps[FIRST + 1 :], strict=False)}
    assert len(gaps) == 1, "every n-th"


def test_of_a_short_training_all_that_a_second_pays_for_is_measured():
    assert measured(Pace(None, 60), 0.012, 60)[FIRST:] == list(range(FIRST + PLAIN, 60))


def test_what_was_chosen_is_kept_and_what_is_asked_for_is_done():
    pace = Pace(None, 2000)
    measured(pace, 0.05, 100)
    again = Pace(None, 2000)
    again.load_state_dict(json.loads(json.dumps(pace.state_dict())))
    assert again.every == pace.every
    assert measured(again, 5.0, 300) == measured(pace, 0.0, 300)
    assert measured(Pace(7, 100), 1.0, 100) == list(range(0, 100, 7))
    assert WARM < FIRST


def test_accounts_add_up_over_processes():
    one = Account(10, 3, 7, {}, 3, 0, {"a": 3}, {"a": 3}, {"l": "reached", "m": "not reached"}, Cost(0.1, 1.0, 3, 10))
    two = Account(5, 1, 4, {}, 1, 0, {"a": 1}, {"a": 1}, {"l": "not reached", "m": "reached"}, Cost(0.3, 3.0, 1, 5))
    both = two.after(one)
    assert both.adds_up
    assert (both.forwards, both.measured, both.rows) == (15, 4, {"a": 4})
    assert both.layers == {"l": "reached", "m": "reached"}
    assert both.cost.share == pytest.approx(4 / 20)
    assert two.after(Account()).forwards == 5


def test_rows_go_to_writers_too_and_a_watcher_sees_the_run_at_any_time(tmp_path):
    seen = []

    def look(stage, done, total, note):
        if stage == "training" and done == 4:
            seen.append(read_latest(tmp_path / "run.sqlite").meta["state"])

    recipe = TrainingRecipe(steps=5, batch_size=32, measure_every=1)
    options = TrainOptions(f"{NETS}:dropped", "digits", tmp_path, recipe=recipe, threads=1, log=("csv",))
    assert train(options, look).state == "finished"
    assert set(seen) <= {"running"}
    files = list((tmp_path / "csv").glob("*.csv"))
    assert files
    rows = [row for path in files for row in csv.DictReader(path.read_text().splitlines())]
    assert len(rows) >= len(read_run(tmp_path / "run.sqlite").skip_rows[0])


def test_a_writer_that_is_none_is_refused_with_the_nearest(tmp_path):
    options = TrainOptions(f"{NETS}:dropped", "digits", tmp_path, log=("tensorbord",))
    with pytest.raises(BadInput, match="tensorboard"):
        train(options)
