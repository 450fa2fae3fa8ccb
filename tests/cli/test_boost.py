"""`skipgrad boost`: options reach the library, its ranking reaches the terminal."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from skipgrad.core.run import Cure, Trial

CURES = [
    Cure(
        "zero-init", "helped", "reached it in half the steps", 0.5, 1.0, 0.5, 0.62, lines="plan = 1\nplan.apply(model)"
    ),
    Cure("add-skips", "worse", "diverged", math.inf, 1.0),
    Cure("skip-calibration", "refused", "no branch to scale"),
]


@dataclass(frozen=True)
class FakeWorkload:
    fit: tuple[str, ...] = ("head set to ten classes",)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replaces the fit and the race by ones that note what they were asked."""
    from skipgrad.race import Dropped, Finished
    from skipgrad.train import TrialResult

    seen: list[Any] = []

    def fit(model: str, args: dict[str, Any], data: str, *, batch_size: int) -> FakeWorkload:
        seen.append((model, args, data, batch_size))
        return FakeWorkload()

    def boost(workload: Any, settings: Any, names: Any, *, seeds: Any, on_event: Any, threads: Any) -> list[Cure]:
        seen.append((workload, settings, names, seeds))
        on_event(Finished(TrialResult(Trial(0, "zero-init", 0.1, 0, 5, state="done"), ())))
        on_event(Dropped("skip-calibration", "no branch to scale"))
        return CURES

    monkeypatch.setattr("skipgrad.models.fit", fit)
    monkeypatch.setattr("skipgrad.boost.boost", boost)
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
    monkeypatch.setattr("skipgrad.boost.boost", lambda *_, **__: told)
    done = cli("boost", "a:b", "--data", "c:d")
    assert done.out == snapshot
    [first, _] = json.loads(cli("boost", "a:b", "--data", "c:d", "--json").out)["cures"]
    assert (first["patient_trains"], first["steps_ratio"], first["seconds_ratio"]) == (False, None, None)


def test_json(cli: Any, calls: list[Any]) -> None:
    told = json.loads(cli("boost", "a:b", "--data", "c:d", "--json").out)
    assert (told["model"], told["data"], told["fit"]) == ("a:b", "c:d", ["head set to ten classes"])
    assert [c["remedy"] for c in told["cures"]] == ["zero-init", "add-skips", "skip-calibration"]
    assert told["cures"][1]["final_loss"] is None


def test_options_arrive(cli: Any, calls: list[Any]) -> None:
    text = "boost a:b --data c:d --steps 7 --batch-size 3 --optimizer adamw --lr 0.01 --seeds 2 --try zero-init"
    assert cli(*text.split(), "--model-arg", "depth=8").status == 0
    fitted, (workload, settings, names, seeds) = calls
    assert fitted == ("a:b", {"depth": 8}, "c:d", 3)
    assert workload == FakeWorkload()
    assert (settings.steps, settings.batch_size, settings.optimizer, settings.lr) == (7, 3, "adamw", 0.01)
    assert (list(names), tuple(seeds)) == (["zero-init"], (0, 1))


def test_trials_are_told_as_they_end(cli: Any, calls: list[Any]) -> None:
    err = cli("boost", "a:b", "--data", "c:d").err
    assert "racing 1: zero-init, rate 0.1, seed 0: done" in err


def test_unknown_optimizer(cli: Any, calls: list[Any]) -> None:
    done = cli("boost", "a:b", "--data", "c:d", "--optimizer", "adm")
    assert (done.status, done.out) == (1, "")
    assert "did you mean adam" in done.err


@pytest.mark.parametrize("threads", ["0", "many", "1.5"])
def test_bad_threads(cli: Any, calls: list[Any], threads: str) -> None:
    done = cli("boost", "a:b", "--data", "c:d", "--threads", threads)
    assert (done.status, done.out, calls) == (1, "", [])
    assert f"'{threads}'" in done.err
    assert "give auto" in done.err


def test_unknown_remedy_before_any_training(cli: Any) -> None:
    done = cli("boost", "skipgrad:plain8", "--data", "digits", "--try", "zeroinit", "--steps", "100000")
    assert (done.status, done.out) == (1, "")
    assert "did you mean zero-init" in done.err
