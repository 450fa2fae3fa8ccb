"""The goals of the race, from stored results."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def goals(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("time_to_target.goals")


def result(*, high: float | None, total: float = 50.0, later: float = 1.0) -> dict[str, Any]:
    """A race whose one cure has this upper end, total cost and loss at equal time; the baseline's are 100 and 1."""
    one = {
        "name": "auto", "time_ratio": high, "state": "helped", "interval": [0.1, high], "total_seconds": total,
        "failures": 0, "runs": 5, "loss_at_equal_time": later, "baseline_final_loss": 1.0,
    }  # fmt: skip
    refused = {"name": "add-skips", "state": "refused"}
    return {"target": {"loss": 0.5}, "baseline": {"total_seconds": 100.0}, "contestants": [one, refused]}


def states(goals: Any, tuned: dict[str, Any], untuned: dict[str, Any]) -> list[str]:
    return [line[2:15].strip() for line in goals.table({goals.TUNED: tuned, goals.UNTUNED: untuned})[1:]]


def test_nothing_stored_is_not_run(goals: Any):
    assert states(goals, {}, {}) == ["not run"] * 5


def test_reached_missed_and_missed_so_far(goals: Any):
    every = dict.fromkeys(goals.RACES, result(high=0.4, total=20.0))
    assert states(goals, every, dict.fromkeys(goals.RACES, result(high=1.2))) == ["reached"] * 5
    slow = dict.fromkeys(goals.RACES, result(high=0.9, total=26.0))
    assert states(goals, slow, dict.fromkeys(goals.RACES, result(high=1.4))) == ["missed"] * 4 + ["reached"]
    fast = result(high=1.1)
    fast["contestants"].append(fast["contestants"][0] | {"name": "agc", "time_ratio": 0.9})
    assert states(goals, dict.fromkeys(goals.RACES, fast), {})[4] == "missed"
    never = dict.fromkeys(goals.RACES, result(high=None))
    assert states(goals, never, never) == ["missed"] * 5
    # Faster to the target and worse afterwards is no gain on a healthy net.
    worse = dict.fromkeys(goals.RACES, result(high=0.4, later=1.2))
    assert states(goals, worse, {})[2:4] == ["reached", "missed"]
    some = {name: every[name] for name in list(goals.RACES)[:2]}
    assert states(goals, some, some)[:4] == ["missed so far"] * 4


def test_a_race_without_a_target_cannot_tell(goals: Any):
    none = {"target": {"loss": None}, "baseline": {"total_seconds": None}, "contestants": []}
    lines = goals.table({goals.TUNED: {"plain": none}, goals.UNTUNED: {}})
    assert "no target or refused on plain" in lines[2]


def test_they_are_read_from_the_folders(goals: Any, tmp_path: Path):
    (tmp_path / "preln").mkdir()
    (tmp_path / "preln" / goals.TUNED).write_text(json.dumps(result(high=0.4)))
    assert list(goals.stored(tmp_path, goals.TUNED)) == ["preln"]
    assert goals.stored(tmp_path, goals.UNTUNED) == {}


def test_the_tasks_that_need_their_depth(goals: Any):
    depth = importlib.import_module("time_to_target.depth")
    x, y = depth.latch().tensors
    _, parity = depth.parity().tensors
    for i in range(3):
        held = odd = 0
        for t in range(depth.LENGTH):
            if x[i, t, 0]:
                held = int(x[i, t, 1] > 0)
                odd ^= held
            assert int(y[i, t]) == held
            assert int(parity[i, t]) == odd
