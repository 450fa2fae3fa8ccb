"""The race of the remedies: rows that are there are not trained again, and the table is made of them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def cures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("cures")


def test_a_race_is_resumed_and_ends_in_the_same_table(
    cures: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    net = cures.digits("resnet8", "zero-init", "add-skips")
    path = tmp_path / "rows.jsonl"
    first = cures.Race(net, 3, cures.Rows(path)).run()
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len({tuple(row["key"]) for row in rows}) == len(rows)
    assert "resnet8" in first[0]
    assert [line.split()[0] for line in first[1:]] == ["untreated", "zero-init", "add-skips"]
    assert "refused" in first[3]  # it has skips everywhere
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:-2]), "utf-8")
    assert cures.Race(net, 3, cures.Rows(path)).run() == first
    monkeypatch.setattr(cures, "train_trial", None)  # nothing is left to train
    assert cures.Race(net, 3, cures.Rows(path)).run() == first
