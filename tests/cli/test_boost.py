"""`skipgrad boost`: options reach the library, its answer reaches the terminal."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from skipgrad.core import Recipe, Run
from skipgrad.store import read_run

SENTENCE = "zero-init reaches 0.61 in 0.62 × the baseline's time [0.5–0.7]."
NONE = "No cure beats your tuned baseline; the cheapest way to its loss was the tuned baseline itself (2.0 s)."


def result(winner: str | None = "zero-init", loss: float | None = 0.61) -> Any:
    from skipgrad.boost import BoostResult, Contestant, Target

    settings = {"lr": 0.1, "warmup": 0.0, "clip": None}
    base = Contestant(
        "baseline", "baseline", "", 1.0, (1.0, 1.0), 1.0, (1.0, 1.0), 2.0, 40.0, 8, 12.0, 5, 1, settings=settings
    )
    one = replace(
        base, name="zero-init", state="helped", reason="0.62 × the baseline's time [0.5–0.7]", time_ratio=0.62,
        interval=(0.5, 0.7), steps_ratio=0.6, failures=0, final_loss=0.5, lines="plan = 1\nplan.apply(model)",
    )  # fmt: skip
    slow = replace(base, name="agc", state="worse", reason="4 of 5 runs never reach the target", time_ratio=None,
        interval=(1.2, None), steps_ratio=None, failures=4)  # fmt: skip
    refused = Contestant("skip-calibration", "refused", "no branch to scale")
    target = Target(loss, "the tuned baseline's" if loss else "the tuned baseline does not train", 2.3)
    run = Run({"model": "a:b", "data": "c:d", "fit": ["head set to ten classes"]})
    recipe = Recipe(optimizer="sgd", lr=0.1)
    sentence = SENTENCE if winner else NONE
    return BoostResult(
        target, base, (one, slow, refused), sentence, winner, recipe, ("mind this",), run, Path("runs/run.sqlite")
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the job by one that notes what it was asked."""
    seen: list[Any] = []

    def job(options: Any, progress: Any = None) -> Any:
        seen.append(options)
        progress("racing zero-init", 0, 4, "")
        progress("racing zero-init", 4, 4, "zero-init, rate 0.1, seed 0: loss 0.5")
        return result()

    monkeypatch.setattr("skipgrad.boost.boost_job", job)
    return seen


def test_table(cli: Any, calls: list[Any], snapshot: SnapshotAssertion) -> None:
    done = cli("boost", "a:b", "--data", "c:d")
    assert done.status == 0
    assert done.out == snapshot


def test_no_winner_and_no_target(cli: Any, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    monkeypatch.setattr("skipgrad.boost.boost_job", lambda *_a, **_k: result(None, None))
    assert cli("boost", "a:b", "--data", "c:d").out == snapshot


def test_json(cli: Any, calls: list[Any]) -> None:
    told = json.loads(cli("boost", "a:b", "--data", "c:d", "--json").out)
    assert (told["model"], told["data"], told["fit"]) == ("a:b", "c:d", ["head set to ten classes"])
    assert [c["name"] for c in told["contestants"]] == ["zero-init", "agc", "skip-calibration"]
    assert told["contestants"][1]["interval"] == [1.2, None]
    assert told["contestants"][1]["failures"] == 4
    assert told["baseline"]["trials"] == 8
    assert told["target"]["loss"] == 0.61


def test_options_arrive(cli: Any, calls: list[Any], tmp_path: Path) -> None:
    text = "boost a:b --data c:d --steps 7 --batch-size 3 --optimizer adamw --lr 0.01 --clip 2 --seeds 2 --trials 4"
    more = "--budget 20m --target 0.3 --ruleset self-tuning --tune-at-depth 3"
    done = cli(
        *text.split(), *more.split(), "--try", "zero-init", "--model-arg", "depth=8", "--out", str(tmp_path)
    )  # fmt: skip
    assert done.status == 0
    (options,) = calls
    assert (options.model, options.model_args, options.data) == ("a:b", {"depth": 8}, "c:d")
    assert options.recipe == Recipe(7, 3, "adamw", 0.01, clip=2.0)
    assert (options.remedies, options.seeds, options.trials, options.threads) == (("zero-init",), 2, 4, "auto")
    assert (options.budget, options.target, options.ruleset, options.tune_at_depth) == (1200, 0.3, "self-tuning", 3)
    assert options.out == tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [("--budget soon", "90s, 20m or 1.5h"), ("--target low", "write auto")],
)
def test_bad_words(cli: Any, words: str, told: str) -> None:
    done = cli("boost", "skipgrad:plain8", "--data", "digits", *words.split())
    assert (done.status, done.out) == (1, "")
    assert told in done.err


def test_both_verbs_train_alike(cli: Any, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody typed is the same in a check and in a race."""
    checked: list[Any] = []
    monkeypatch.setattr("skipgrad.check.check", lambda options, progress=None: checked.append(options) or exit())
    cli("boost", "a:b", "--data", "c:d")
    cli("check", "a:b", "--data", "c:d")
    assert calls[0].recipe == checked[0].recipe == Recipe()


def test_how_far_it_is_goes_to_stderr(cli: Any, calls: list[Any]) -> None:
    err = cli("boost", "a:b", "--data", "c:d").err
    assert "racing zero-init 4/4: zero-init, rate 0.1, seed 0: loss 0.5" in err


@pytest.mark.parametrize("threads", ["0", "many", "1.5"])
def test_bad_threads(cli: Any, threads: str) -> None:
    done = cli("boost", "skipgrad:plain8", "--data", "digits", "--threads", threads)
    assert (done.status, done.out) == (1, "")
    assert f"'{threads}'" in done.err
    assert "give auto" in done.err


def test_unknown_optimizer(cli: Any) -> None:
    done = cli("boost", "skipgrad:plain8", "--data", "digits", "--optimizer", "adm")
    assert (done.status, done.out) == (1, "")
    assert "did you mean adam" in done.err


def test_a_race_is_kept_as_it_happens(cli: Any, tmp_path: Path) -> None:
    """The run file has every trial and what became of each remedy, and the report opens it."""
    pytest.importorskip("optuna")
    words = "boost skipgrad:resnet8 --data digits --steps 20 --batch-size 16 --trials 1 --seeds 2 --threads 1"
    done = cli(*words.split(), "--try", "zero-init", "--try", "add-skips", "--out", str(tmp_path / "out"))
    assert done.status == 0, done.err
    run = read_run(tmp_path / "out" / "run.sqlite")
    assert run.meta["state"] == "done"
    assert (run.meta["steps"], run.meta["optimizer"], run.meta["lr"]) == (20, "sgd", 0.05)
    assert {c.remedy for c in run.cures} == {"zero-init", "add-skips"}
    assert [c.state for c in run.cures if c.remedy == "add-skips"] == ["refused"]
    assert sum(t.remedy == "zero-init" for t in run.trials) == 3
    assert all(t.state == "done" for t in run.trials)
    assert len(run.losses) == 20 * len(run.trials)
    assert run.meta["threads"]["chosen"] == 1
    shown = cli("report", str(tmp_path / "out"))
    assert shown.status == 0
    assert "zero-init" in shown.out


def test_an_interrupted_race_keeps_what_it_has(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    from skipgrad.race import RaceRecord, Stepped

    tell, steps = RaceRecord.__call__, []

    def stop(record: RaceRecord, event: Any) -> None:
        tell(record, event)
        steps.append(isinstance(event, Stepped))
        if sum(steps) == 26:
            raise KeyboardInterrupt

    monkeypatch.setattr(RaceRecord, "__call__", stop)
    words = "boost skipgrad:resnet8 --data digits --steps 20 --batch-size 16 --threads 1 --try zero-init"
    done = cli(*words.split(), "--out", str(tmp_path / "out"))
    assert done.status == 130
    assert "run.sqlite" in done.err
    assert "baseline: 1 of 8 tuning trials" in done.err
    run = read_run(tmp_path / "out" / "run.sqlite")
    assert run.meta["state"] == "interrupted"
    assert len(run.losses) == 26
    assert [t.state for t in run.trials] == ["done", "interrupted"]


def test_without_optuna_it_says_what_to_install(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = cli("boost", "skipgrad:plain8", "--data", "digits")
    assert (done.status, done.out) == (1, "")
    assert "skipgrad[tune]" in done.err


def test_unknown_remedy_before_any_training(cli: Any) -> None:
    done = cli("boost", "skipgrad:plain8", "--data", "digits", "--try", "zeroinit", "--steps", "100000")
    assert (done.status, done.out) == (1, "")
    assert "did you mean zero-init" in done.err
