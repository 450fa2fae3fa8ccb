"""The honest race: equal tuning, fresh seeds, nothing lost, and the answer whatever it is."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from skipgrad.boost import BoostOptions, boost_job
from skipgrad.boost.contest import Contest
from skipgrad.boost.entry import Plan
from skipgrad.boost.held import interval, parts, points
from skipgrad.boost.kept import STUDY
from skipgrad.boost.options import duration, steps_for, target_of
from skipgrad.boost.trial import Ground, Job, run_trial
from skipgrad.core import BadInput, MissingExtra, OutputError, Recipe, SkipgradError
from skipgrad.models import fit
from skipgrad.race import find_skips
from skipgrad.store import read_run

pytest.importorskip("optuna")

SMALL = BoostOptions(
    "skipgrad:resnet8",
    "digits",
    recipe=Recipe(steps=24, batch_size=16),
    trials=2,
    seeds=2,
    remedies=("zero-init", "add-skips"),
    threads=1,
)


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("race")
    return boost_job(replace(SMALL, out=out)), out


def test_everybody_tunes_alike_and_is_judged_on_fresh_seeds(raced):
    result, _ = raced
    assert [c.name for c in result.contestants] == ["zero-init", "add-skips"]
    one, refused = result.contestants
    assert (result.baseline.trials, one.trials) == (2, 2)
    assert (result.baseline.runs, one.runs) == (2, 2)
    assert refused.state == "refused"
    assert "no place for a skip" in refused.reason
    by = {None: [], "zero-init": []}
    for t in result.run.trials:
        by[t.remedy].append(t.seed)
    assert sorted(by[None]) == sorted(by["zero-init"]) == [0, 0, 1, 2]
    # Both tune at the same rates.
    rates = {r: sorted(t.rate for t in result.run.trials if t.remedy == r and t.seed == 0) for r in by}
    assert rates[None] == rates["zero-init"]
    assert rates[None] != sorted({0.05})


def test_the_target_is_the_tuned_baselines_and_its_own_ratio_is_one(raced):
    result, _ = raced
    assert 0 < result.target.loss < result.target.chance
    assert "75 %" in result.target.reason
    assert result.baseline.time_ratio == result.baseline.steps_ratio == 1.0
    assert result.baseline.failures <= 1  # a median over two seeds


def test_the_answer_is_a_sentence_and_a_recipe(raced):
    result, out = raced
    assert result.sentence.startswith(("No cure beats your tuned baseline", "zero-init reaches"))
    import tomllib

    told = tomllib.loads((out / "recipe.toml").read_text(encoding="utf-8"))
    assert told["steps"] == 24
    assert told["optimizer"] == "sgd"
    data = result.to_dict()
    assert set(data) >= {"target", "baseline", "contestants", "sentence", "toml"}
    assert set(data["contestants"][0]) >= {"interval", "trials", "seconds", "failures"}


def test_the_same_command_again_trains_nothing(raced, monkeypatch: pytest.MonkeyPatch):
    result, out = raced

    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a finished trial was repeated")

    monkeypatch.setattr("skipgrad.boost.trial.train_trial", never)
    again = boost_job(replace(SMALL, out=out))
    assert again.baseline == result.baseline
    assert again.contestants == result.contestants
    assert len(read_run(again.run_path).losses) == len(result.run.losses)
    lower = boost_job(replace(SMALL, out=out, target=result.target.loss * 1.2))
    assert lower.target.reason == "as typed"


def test_more_trials_and_seeds_go_on_from_what_there_is(raced, monkeypatch: pytest.MonkeyPatch):
    _, out = raced
    seen: list[str] = []
    real = Contest._trial
    monkeypatch.setattr(
        Contest, "_trial", lambda self, job, ground: seen.append(job.plan.phase) or real(self, job, ground)
    )
    boost_job(replace(SMALL, out=out, trials=3, seeds=2))
    assert seen.count("tune") == 2  # one more for each of the two that run


def test_a_study_of_another_model_or_recipe_is_refused(raced):
    _, out = raced
    with pytest.raises(BadInput, match=r"model 'skipgrad:resnet8' in place of 'skipgrad:resnet14'"):
        boost_job(replace(SMALL, out=out, model="skipgrad:resnet14"))
    with pytest.raises(BadInput, match="trials of another race"):
        boost_job(replace(SMALL, out=out, recipe=Recipe(steps=25, batch_size=16)))


def test_a_study_of_another_version_is_refused(raced, monkeypatch: pytest.MonkeyPatch):
    _, out = raced
    monkeypatch.setattr("skipgrad.boost.job.versions", lambda: {"skipgrad": "0.0.1", "torch": "2"})
    with pytest.raises(BadInput, match=r"in place of '0\.0\.1'"):
        boost_job(replace(SMALL, out=out))


def test_a_file_that_is_no_study_is_told(tmp_path: Path):
    (tmp_path / STUDY).write_bytes(b"something else entirely, and long enough to be looked at" * 40)
    with pytest.raises(OutputError, match="another folder"):
        boost_job(replace(SMALL, out=tmp_path))


def test_a_typed_target_on_the_plateau_or_out_of_reach_is_refused(raced):
    _, out = raced
    with pytest.raises(BadInput, match="class-prior"):
        boost_job(replace(SMALL, out=out, target=2.28))
    with pytest.raises(BadInput, match="never reaches"):
        boost_job(replace(SMALL, out=out, target=1e-6))


@pytest.mark.slow
def test_a_baseline_that_does_not_train_has_no_target(tmp_path: Path):
    result = boost_job(
        replace(SMALL, out=tmp_path, recipe=Recipe(steps=24, batch_size=16, lr=1e-12), remedies=("zero-init",))
    )
    assert result.target.loss is None
    assert result.sentence.startswith("No target")
    assert result.to_dict()["target"]["loss"] is None
    assert result.baseline.time_ratio is None


def test_the_validation_loss_is_raced_where_something_is_held_out(tmp_path: Path):
    options = replace(SMALL, out=tmp_path, holdout=0.2, trials=1, seeds=1, remedies=("zero-init",))
    result = boost_job(options)
    assert result.target.of == "validation"
    assert "smoothed validation loss" in result.target.reason
    # It is another loss than the training's, and the training's is in the run file all the same.
    study = _entries(tmp_path)
    assert all(len(e["held"]) == len(e["losses"]) == 24 for e in study)
    assert all(e["held"][-1][1] != e["losses"][-1] for e in study)
    assert all(e["held"][-1][2] == e["seconds"][-1] for e in study)
    with pytest.raises(BadInput, match=r"holdout 0\.2 in place of None"):
        boost_job(replace(options, holdout=None))


def _entries(folder: Path) -> list[dict]:
    with closing(sqlite3.connect(folder / STUDY)) as file:
        rows = file.execute("SELECT value_json FROM trial_user_attributes WHERE key = 'entry'").fetchall()
    return [json.loads(row[0]) for row in rows]


def test_a_held_out_part_changes_no_step_of_the_training():
    whole = fit("skipgrad:resnet8", {}, "digits", batch_size=16)
    train, held = parts(whole, 0.1)
    assert held is not None
    assert held.data.size == 180
    assert parts(whole, None)[1] is None  # digits have no test part of their own
    assert parts(whole, 0)[1] is None
    recipe = Recipe(steps=6, batch_size=16, lr=0.05)
    job = Job(0, Plan("baseline", "tune", "0", 0, {"lr": 0.05, "warmup": 0.0, "clip": None}), recipe)
    graph = find_skips(train.build(), train)
    seen, blind = (run_trial(job, Ground(train, graph, h), lambda _: None) for h in (held, None))
    assert [p.loss for p in seen.result.losses] == [p.loss for p in blind.result.losses]
    assert len(seen.raced.losses) == seen.raced.trial.steps == 6
    assert blind.raced is blind.result


def test_a_long_trial_is_evaluated_some_forty_times():
    for steps in (1, 39, 40, 41, 100, 1000):
        due = [s for s in range(steps) if not (s + 1) % interval(steps) or s + 1 == steps]
        assert len(due) == points(steps) <= 40


def test_every_contestant_may_refuse(tmp_path: Path):
    result = boost_job(replace(SMALL, out=tmp_path, remedies=("add-skips",)))
    assert result.winner is None
    assert "Every contestant refused" in result.sentence


@pytest.mark.slow
def test_the_self_tuning_ruleset_tunes_the_baseline_alone(tmp_path: Path):
    result = boost_job(replace(SMALL, out=tmp_path, ruleset="self-tuning", seeds=1, remedies=("zero-init",)))
    assert {c.name for c in result.contestants} == {"baseline, untuned", "zero-init"}
    assert all(c.trials == 0 and c.seconds == 0 and c.runs == 3 for c in result.contestants)
    assert result.baseline.trials == 2
    rates = {t.rate for t in result.run.trials if t.remedy == "zero-init"}
    assert sorted(rates) == pytest.approx([0.005, 0.05, 0.5])


def test_who_refuses_every_run_without_tuning_is_refused_and_not_slow(tmp_path: Path):
    options = replace(SMALL, out=tmp_path, ruleset="self-tuning", trials=1, seeds=1, remedies=("pre-norm",))
    result = boost_job(options)
    (one,) = [c for c in result.contestants if c.name == "pre-norm"]
    assert one.state == "refused"
    assert "planning pre-norm" in one.reason


def test_optuna_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"skipgrad\[tune\]"):
        boost_job(replace(SMALL, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_budget_that_is_too_small_says_how_much_it_takes():
    options = replace(SMALL, budget=10.0, trials=8, seeds=5)
    # 3 contestants × 13 trials × 20 steps × 0.1 s
    with pytest.raises(BadInput, match=r"at least 78\.0 s"):
        steps_for(options, 3, 0.1)
    assert steps_for(replace(options, budget=78.5), 3, 0.1) == 20


def test_a_budget_becomes_steps_and_stays_with_the_study(tmp_path: Path):
    options = replace(SMALL, out=tmp_path, budget=30.0, trials=1, seeds=1, remedies=("add-skips",))
    # How many steps it allows is a matter of the machine.
    first = boost_job(replace(options, budget=4.0)).run.meta["steps"]
    assert first >= 20
    assert boost_job(replace(options, budget=400.0)).run.meta["steps"] == first


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("2 min", 120)])
def test_durations(text: str, value: float):
    assert duration(text) == value


@pytest.mark.parametrize("text", ["20", "m", "0m", "-3s", "1d", ""])
def test_bad_durations(text: str):
    with pytest.raises(BadInput, match="20m"):
        duration(text)


def test_targets():
    assert target_of("auto") is None
    assert target_of("0.25") == 0.25
    for bad in ("low", "nan", "inf"):
        with pytest.raises(BadInput, match="auto"):
            target_of(bad)


@pytest.mark.parametrize(
    ("name", "value"), [("trials", 0), ("seeds", 0), ("ruleset", "fair"), ("workers", 0), ("holdout", 1.0)]
)
def test_bad_options(name: str, value: object):
    with pytest.raises(SkipgradError, match="setting up a race"):
        replace(SMALL, **{name: value})


def _finished(study: Path) -> int:
    try:
        with closing(sqlite3.connect(study, timeout=5)) as file:
            return file.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_repeats_no_finished_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = "boost skipgrad:resnet8 --data digits --steps 60 --batch-size 16 --trials 3 --seeds 2 --threads 1"
    command = [sys.executable, "-m", "skipgrad", *words.split(), "--try", "zero-init", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    study = tmp_path / STUDY
    until = time.monotonic() + 120
    while _finished(study) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = _finished(study)
    assert 3 <= before < 10
    ran: list[object] = []
    real = Contest._trial
    monkeypatch.setattr(Contest, "_trial", lambda self, plan, ground: ran.append(plan) or real(self, plan, ground))
    options = replace(
        SMALL, recipe=Recipe(steps=60, batch_size=16), trials=3, remedies=("zero-init",), out=tmp_path
    )  # fmt: skip
    result = boost_job(options)
    assert len(ran) == 10 - before
    # It goes on as it would have: the same search, the same losses, as a race that nobody killed.
    whole = boost_job(replace(options, out=tmp_path / "whole"))
    assert whole.baseline.settings == result.baseline.settings
    assert whole.contestants[0].settings == result.contestants[0].settings
    assert whole.contestants[0].steps_ratio == result.contestants[0].steps_ratio


def test_interrupted_it_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, seen = Contest._trial, []

    def trial(self: Contest, plan: object, ground: object):
        seen.append(plan)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(self, plan, ground)  # type: ignore[arg-type]

    monkeypatch.setattr(Contest, "_trial", trial)
    with pytest.raises(KeyboardInterrupt) as caught:
        boost_job(replace(SMALL, out=tmp_path, remedies=("zero-init",)))
    told = "\n".join(caught.value.__notes__)
    assert "baseline: 2 of 2 tuning trials" in told
    assert "zero-init: 1 of 2 tuning trials" in told
    assert "repeats no finished trial" in told
    assert read_run(tmp_path / "run.sqlite").meta["state"] == "interrupted"
