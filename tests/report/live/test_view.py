"""One frame of a run: what it says, and that it fits."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from skipgrad.core import Account, Cost, LayerRow, LossPoint, Run, SkipGraph, SkipRow, Trial
from skipgrad.report.live import Frame, Pace, tail, view
from skipgrad.report.live.view import share
from skipgrad.store import RunWriter, read_latest


def skip(step: int, name: str, s: float, b: float, *, micro: int = 0, finite: bool = True) -> SkipRow:
    return SkipRow(step, micro, name, s, b, s + b, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, finite)


def layer(step: int, depth: int, norm: float) -> LayerRow:
    return LayerRow(step, f"layer{depth}", depth, norm, 1.0, norm, 0.01, 0.0)


def frame(run: Run, path: Path, age: float) -> Frame:
    """How the file of such a run is seen."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "run.sqlite"
        with RunWriter.create(file, run.meta) as writer:
            for trial in run.trials:
                writer.trial(trial)
            for trial, rows in run.skip_rows.items():
                writer.skip_rows(trial, rows)
            for trial, layers in run.layer_rows.items():
                writer.layer_rows(trial, layers)
            writer.losses(run.losses)
        return tail.frame(read_latest(file), path, age)


@pytest.fixture
def run() -> Run:
    """A check in the middle of its second trial: the patient was measured, the cure is not."""
    names = [f"encoder.stages.{i // 4}.blocks.{i % 4}.with.a.long.path" for i in range(12)]
    skips = [skip(t, n, 1.0 + i, 1.0) for t in (7, 9) for i, n in enumerate(names)]
    skips += [skip(9, "broken[red]\x1b[31m", math.nan, 1.0, finite=False), skip(9, "", 0.0, 0.0)]
    layers = [layer(9, d, 10.0 ** (d - 20)) for d in reversed(range(20))] + [layer(9, 20, 0.0), layer(9, 21, math.inf)]
    losses = [LossPoint(0, t, 3.0 - 0.1 * t, 0.5 * t) for t in range(10)]
    losses += [LossPoint(1, t, math.nan if t == 3 else 2.0 / (t + 1), 0.25 * t) for t in range(200)]
    return Run(
        {"model": "skipgrad:plain56", "state": "running"},
        SkipGraph(()),
        (Trial(0, None, 0.1, 0, 10, measured=True, state="done"), Trial(1, "zero-init", 0.05, 0, 1000)),
        tuple(losses),
        {0: tuple(skips)},
        {0: tuple(layers)},
    )


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_is_wider_than_the_terminal(run: Run, width: int) -> None:
    lines = view(frame(run, Path("run.sqlite"), 0.4), width, 30, 4.0)
    assert max(line.cell_len for line in lines) <= width
    assert len(lines) <= 30


@pytest.mark.parametrize("width", [80, 100])
def test_what_it_says(run: Run, width: int, snapshot: Any) -> None:
    lines = view(frame(run, Path("run.sqlite"), 0.4), width, 30, 4.0)
    assert "\n".join(line.plain.rstrip() for line in lines) == snapshot


def test_before_the_first_row(snapshot: Any) -> None:
    empty = Run({"model": "net", "state": "running"})
    assert "\n".join(t.plain.rstrip() for t in view(frame(empty, Path("run.sqlite"), 70.0), 80)) == snapshot


def test_names_cannot_steer_the_terminal(run: Run) -> None:
    text = "\n".join(line.plain for line in view(frame(run, Path("a\x1b]0;title\x07.db"), 0.0), 120))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "broken[red]" in text


def test_a_low_terminal_gets_fewer_skips(run: Run) -> None:
    assert len(view(frame(run, Path("run.sqlite"), 0.0), 80, 16)) <= 16


def test_the_worst_comes_first_and_the_last_backward_counts(run: Run) -> None:
    rows = (skip(0, "a", 1.0, 1.0), skip(0, "b", 3.0, 1.0), skip(0, "b", 1.0, 3.0, micro=1))
    lines = view(frame(replace(run, skip_rows={0: rows}), Path("run.sqlite"), 0.0), 100)
    table = [line.plain.split() for line in lines[-2:]]
    assert [row[0] for row in table] == ["b", "a"]
    assert table[0][1:3] == ["10", "%"]
    assert table[0][-2:] == ["1", "3"]


@pytest.mark.parametrize(
    ("s", "b", "expected"),
    [
        (1.0, 1.0, 0.5),
        (3.0, 4.0, 0.36),
        (0.0, 2.0, 0.0),
        (1e-200, 1e-200, 0.5),
        (0.0, 0.0, None),
        (math.inf, 1.0, None),
    ],
)
def test_share(s: float, b: float, expected: float | None) -> None:
    found = share(skip(0, "a", s, b))
    assert found == (expected if expected is None else pytest.approx(expected))


def test_pace_by_the_seconds_of_the_run(run: Run) -> None:
    assert Pace()(frame(run, Path("run.sqlite"), 0.0)) == pytest.approx(4.0)


def test_pace_by_the_clock_of_whoever_watches_where_no_loss_is_written(run: Run) -> None:
    pace = Pace()
    for now, step, expected in ((0.0, 10, None), (1.0, 10, None), (2.0, 20, 5.0), (3.0, 30, 20 / 3), (4.0, 3, None)):
        bare = replace(run, losses=(), layer_rows={}, skip_rows={0: (skip(step, "a", 1, 1),)}, trials=run.trials[:1])
        assert pace(frame(bare, Path("run.sqlite"), 0.0), now) == (expected and pytest.approx(expected))


def test_a_failed_run_says_why(run: Run) -> None:
    meta = {**run.meta, "state": "failed", "error": "ModelError: no room\n  for\x1b[31m it"}
    lines = [line.plain for line in view(frame(replace(run, meta=meta), Path("run.sqlite"), 0.0), 80)]
    assert lines[1].startswith("failed")
    assert lines[2].rstrip() == "error     ModelError: no room for�[31m it"
    assert all("left" not in line for line in lines[:2])


def test_of_a_long_run_not_all_losses_are_looked_at_and_it_says_so(run: Run) -> None:
    losses = [LossPoint(1, t, math.nan if t % 2 else 2.0 / (t + 1), 0.5 * t) for t in range(10_000)]
    losses[-1] = LossPoint(1, 9999, 0.125, 0.5 * 9999)
    seen = frame(replace(run, losses=tuple(losses)), Path("run.sqlite"), 0.0)
    text = "\n".join(line.plain for line in view(seen, 100))
    assert "0.125 at step 9,999, from 2 at step 0" in text
    assert Pace()(seen) == pytest.approx(2.0)
    losses[0] = LossPoint(1, 0, math.nan, 0.0)
    text = "\n".join(line.plain for line in view(frame(replace(run, losses=tuple(losses)), Path("r"), 0.0), 100))
    assert "1 of 314 looked at not finite (×)" in text


def test_what_was_measured_and_what_could_not_be_is_told(run: Run) -> None:
    account = Account(300, 12, 280, {"it ran in another thread": 8}, cost=Cost(0.008, 0.4, 12, 300))
    told = replace(run, meta={**run.meta, "account": account.to_dict()})
    lines = [line.plain for line in view(frame(told, Path("run.sqlite"), 1.0), 110)]
    (line,) = [line for line in lines if line.startswith("measured")]
    assert line == "measured  12 of 300 steps, 0.8 % of the time · 8 forwards not: it ran in another thread"
    assert not any(line.plain.startswith("measured") for line in view(frame(run, Path("run.sqlite"), 1.0), 110))
