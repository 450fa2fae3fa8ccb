"""`skipgrad boost`: options reach the library, its ranking reaches the terminal."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from skipgrad.core import Cure, Recipe, Run
from skipgrad.store import read_run

CURES = [
    Cure(
        "zero-init", "helped", "reached it in half the steps", 0.5, 1.0, 0.5, 0.62, lines="plan = 1\nplan.apply(model)"
    ),
    Cure("add-skips", "worse", "diverged", math.inf, 1.0),
    Cure("skip-calibration", "refused", "no branch to scale"),
]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the job by one that notes what it was asked."""
    from skipgrad.boost import BoostResult

    seen: list[Any] = []

    def job(options: Any, progress: Any = None) -> BoostResult:
        seen.append(options)
        progress("racing zero-init", 0, 4, "")
        progress("racing zero-init", 4, 4, "zero-init, rate 0.1, seed 0: loss 0.5")
        run = Run({"model": options.model, "data": options.data, "fit": ["head set to ten classes"]})
        return BoostResult(tuple(CURES), run, Path("runs/run.sqlite"))

    monkeypatch.setattr("skipgrad.boost.boost_job", job)
    return seen


def test_table(cli: Any, calls: list[Any], snapshot: SnapshotAssertion) -> None:
    done = cli("boost", "a:b", "--data", "c:d")
    assert done.status == 0
    assert done.out == snapshot


def test_a_patient_that_does_not_train_gets_losses(
    cli: Any, calls: list[Any], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Cure("add-skips", "helped", "falls where the patient does not", best_loss=0.476, patient_best_loss=2.3)
    told = [replace(idle, patient_trains=False, patient_first_loss=2.31), CURES[2]]
    monkeypatch.setattr(sys.modules[__name__], "CURES", told)
    done = cli("boost", "a:b", "--data", "c:d")
    assert done.out == snapshot
    [first, _] = json.loads(cli("boost", "a:b", "--data", "c:d", "--json").out)["cures"]
    assert (first["patient_trains"], first["steps_ratio"], first["seconds_ratio"]) == (False, None, None)


def test_json(cli: Any, calls: list[Any]) -> None:
    told = json.loads(cli("boost", "a:b", "--data", "c:d", "--json").out)
    assert (told["model"], told["data"], told["fit"]) == ("a:b", "c:d", ["head set to ten classes"])
    assert [c["remedy"] for c in told["cures"]] == ["zero-init", "add-skips", "skip-calibration"]
    assert told["cures"][1]["final_loss"] is None


def test_options_arrive(cli: Any, calls: list[Any], tmp_path: Path) -> None:
    text = "boost a:b --data c:d --steps 7 --batch-size 3 --optimizer adamw --lr 0.01 --clip 2 --seeds 2"
    assert cli(*text.split(), "--try", "zero-init", "--model-arg", "depth=8", "--out", str(tmp_path)).status == 0
    (options,) = calls
    assert (options.model, options.model_args, options.data) == ("a:b", {"depth": 8}, "c:d")
    assert options.recipe == Recipe(7, 3, "adamw", 0.01, clip=2.0)
    assert (options.remedies, options.seeds, options.threads) == (("zero-init",), 2, "auto")
    assert options.out == tmp_path


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
    words = "boost skipgrad:resnet8 --data digits --steps 4 --batch-size 16 --seeds 2 --threads 1 --try zero-init"
    done = cli(*words.split(), "--try", "add-skips", "--out", str(tmp_path / "out"))
    assert done.status == 0, done.err
    run = read_run(tmp_path / "out" / "run.sqlite")
    assert run.meta["state"] == "done"
    assert (run.meta["steps"], run.meta["optimizer"], run.meta["lr"]) == (4, "sgd", 0.05)
    assert {c.remedy for c in run.cures} == {"zero-init", "add-skips"}
    assert [c.state for c in run.cures if c.remedy == "add-skips"] == ["refused"]
    assert sum(t.remedy == "zero-init" for t in run.trials) == 4  # three rates, one more seed
    assert all(t.state == "done" for t in run.trials)
    assert len(run.losses) == 4 * len(run.trials)
    assert run.meta["threads"]["chosen"] == 1
    shown = cli("report", str(tmp_path / "out"))
    assert shown.status == 0
    assert "zero-init" in shown.out


def test_an_interrupted_race_keeps_what_it_has(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skipgrad.race import RaceRecord, Stepped

    tell, steps = RaceRecord.__call__, []

    def stop(record: RaceRecord, event: Any) -> None:
        tell(record, event)
        steps.append(isinstance(event, Stepped))
        if sum(steps) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(RaceRecord, "__call__", stop)
    words = "boost skipgrad:resnet8 --data digits --steps 4 --batch-size 16 --threads 1 --try zero-init"
    done = cli(*words.split(), "--out", str(tmp_path / "out"))
    assert done.status == 130
    assert "run.sqlite" in done.err
    run = read_run(tmp_path / "out" / "run.sqlite")
    assert run.meta["state"] == "interrupted"
    assert len(run.losses) == 6
    assert [t.state for t in run.trials] == ["done", "interrupted"]


def test_unknown_remedy_before_any_training(cli: Any) -> None:
    done = cli("boost", "skipgrad:plain8", "--data", "digits", "--try", "zeroinit", "--steps", "100000")
    assert (done.status, done.out) == (1, "")
    assert "did you mean zero-init" in done.err
