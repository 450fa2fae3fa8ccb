"""What stays of a long run: evenly spaced steps, the first and the last, and every step that was not finite."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skipgrad.core import LayerRow, LossPoint, Run, RunFileError, SkipRow, Thinned, Trial
from skipgrad.diagnosis import diagnose
from skipgrad.store import RunWriter, read_latest, read_run, schedule, schema

DENSE = 16


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen steps without a gap, so that small runs are long ones."""
    monkeypatch.setattr(schedule, "MOST_ROWS", 1)


def skips(step: int, **changed: Any) -> list[SkipRow]:
    figure = step + 0.5
    rows = [SkipRow(step, 0, n, *(figure,) * 9, finite=True) for n in "abc"]
    return [rows[0], replace(rows[1], **changed), rows[2]]


def layers(step: int) -> list[LayerRow]:
    return [LayerRow(step, n, d, 1.0, 2.0, None, None if n == "a" else 0.5, None, None, 64) for d, n in enumerate("ab")]


def write(path: Path, steps: Iterable[int], bad: int = -1, **changed: Any) -> None:
    with RunWriter.append(path) if path.exists() else RunWriter.create(path) as writer:
        for step in steps:
            now = {"skip_norm": math.inf} if step == bad else changed
            writer.skip_rows(0, skips(step, **now)).layer_rows(0, layers(step)).commit()


def by_key(run: Run) -> list[SkipRow]:
    return sorted(run.skip_rows[0], key=lambda r: (r.step, r.skip))


def steps(run: Run) -> list[int]:
    assert {r.step for r in run.skip_rows[0]} == {r.step for r in run.layer_rows[0]}
    return sorted({r.step for r in run.skip_rows[0]})


@given(st.integers(0, 10**7), st.sampled_from([16, 64, 1024]))
def test_the_multiples_of_the_last_stride_are_always_there(last: int, dense: int) -> None:
    stride = schedule.stride(last, dense)
    even = range(0, last + 1, stride)
    assert all(schedule.is_kept(place, dense) for place in even)
    assert len(even) <= dense + 1
    assert stride == 1 or len(even) >= dense / 2


@pytest.mark.parametrize(("rows", "expected"), [(1, 2**19), (300, 1024), (3000, 128), (30_000, 16), (10**7, 16)])
def test_wide_nets_keep_fewer_steps(rows: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MOST_ROWS", 2**19)
    assert schedule.dense(rows) == expected


def test_a_short_run_is_whole_and_says_nothing_of_thinning(tmp_path: Path) -> None:
    write(tmp_path / "run.db", range(DENSE))
    run = read_run(tmp_path / "run.db")
    assert steps(run) == list(range(DENSE))
    assert run.thinned == {}


def test_a_long_run_is_even_with_its_first_and_last_step_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    write(path, range(0, 3010, 10))  # places 0 to 300
    run = read_run(path)
    assert steps(run) == [*range(0, 3000, 320), 3000]
    assert run.skip_rows[0][-3:] == tuple(skips(3000))
    assert run.layer_rows[0][-2:] == tuple(layers(3000))
    assert run.skip_rows[0][3:6] == tuple(skips(320))
    assert run.thinned == {0: Thinned(steps=301, every=32, dense=DENSE)}
    dense = steps(read_run(path, all_kept=True))
    assert dense[:18] == [*range(0, 170, 10), 180]
    assert set(dense) > set(steps(run))


def test_the_file_grows_with_the_logarithm_of_the_steps(tmp_path: Path) -> None:
    sizes = []
    for count in (100, 400, 1600):
        path = tmp_path / f"{count}.db"
        with RunWriter.create(path) as writer:
            for step in range(count):
                writer.skip_rows(0, [replace(skips(step)[0], skip=f"s{i}") for i in range(60)]).commit()
        sizes.append(path.stat().st_size)
    first, second = sizes[1] - sizes[0], sizes[2] - sizes[1]
    assert first > 20_000
    assert second < 1.5 * first  # four times the steps cost as much each time


def test_steps_committed_one_by_one_or_at_once_read_the_same(tmp_path: Path) -> None:
    write(tmp_path / "one.db", range(100))
    with RunWriter.create(tmp_path / "all.db") as writer:
        writer.skip_rows(0, [r for step in range(100) for r in skips(step)])
        writer.layer_rows(0, [r for step in range(100) for r in layers(step)])
    one, every = read_run(tmp_path / "one.db"), read_run(tmp_path / "all.db")
    assert (one.skip_rows, one.layer_rows, one.thinned) == (every.skip_rows, every.layer_rows, every.thinned)


def test_rows_that_come_late_join_their_step(tmp_path: Path) -> None:
    with RunWriter.create(tmp_path / "run.db") as writer:
        writer.skip_rows(0, skips(0)).commit()
        for step in range(1, 40):
            writer.skip_rows(0, skips(step)).commit()
            writer.layer_rows(0, layers(step - 1)).commit()
        writer.layer_rows(0, layers(39))
    assert steps(read_run(tmp_path / "run.db")) == [*range(0, 40, 4), 39]


@pytest.mark.parametrize("back", [1, 7, 30])
def test_a_run_that_went_back_ends_as_if_it_had_not(tmp_path: Path, back: int) -> None:
    path, straight = tmp_path / "run.db", tmp_path / "straight.db"
    write(path, range(101), skip_norm=3.0)
    write(path, range(101 - back, 101 - back + 60))
    write(straight, range(101 - back), skip_norm=3.0)
    write(straight, range(101 - back, 101 - back + 60))
    again, once = read_run(path), read_run(straight)
    assert steps(again) == steps(once)
    assert by_key(again) == by_key(once)
    assert again.thinned == once.thinned


@pytest.mark.parametrize("sessions", [[range(71, 82)], [range(71, 75), range(75, 76), range(76, 82)]])
def test_a_run_that_went_back_and_was_killed_soon_ends_where_it_was(tmp_path: Path, sessions: list[range]) -> None:
    path = tmp_path / "run.db"
    write(path, range(101), bad=91)  # the first bad step, until the run goes back beyond it
    for session in sessions:
        write(path, session, bad=75, skip_norm=3.0)
    run = read_run(path)
    rows = {(r.step, r.skip): r for r in run.skip_rows[0]}
    assert rows[81, "b"].skip_norm == 3.0  # the newest, whole
    assert (81, "a") in rows
    assert (100, "a") not in rows  # it was the newest, and is of the past that was given up
    assert {(75, n) for n in "abc"} <= set(rows)  # the first bad step of the past that counts, whole


@pytest.mark.parametrize("bad", [{33}, {33, 34, 77}, {5, 99}, set(range(33, 100))])
def test_what_is_not_finite_is_judged_as_if_all_rows_were_there(tmp_path: Path, bad: set[int]) -> None:
    path = tmp_path / "run.db"
    every_skip, every_layer, losses = [], [], []
    with RunWriter.create(path) as writer:
        writer.trial(Trial(0, None, 0.1, 0, 100, measured=True))
        for step in range(100):
            rows, sizes = skips(step), layers(step)
            if step in bad:
                rows[1] = replace(rows[1], skip_norm=math.inf, finite=False)
                rows[2] = replace(rows[2], total_norm=math.nan, finite=False)
                sizes[1] = replace(sizes[1], out_grad_norm=math.nan, finite=False)
            losses.append(LossPoint(0, step, 2.0 - step / 100, float(step)))
            writer.losses(losses[-1:]).skip_rows(0, rows).layer_rows(0, sizes).commit()
            every_skip += rows
            every_layer += sizes
    kept = read_run(path)
    assert len(kept.skip_rows[0]) < len(every_skip) / 2
    whole = replace(kept, skip_rows={0: tuple(every_skip)}, layer_rows={0: tuple(every_layer)})
    judged = [next(f for f in diagnose(run) if f.code == "SG010") for run in (kept, whole)]
    assert judged[0].state == "found"
    assert replace(judged[0], coverage=judged[1].coverage) == judged[1]


V1 = (
    "CREATE TABLE skip_rows (trial INTEGER NOT NULL, step INTEGER NOT NULL, micro INTEGER NOT NULL, skip TEXT NOT NULL,"
    " skip_norm REAL, branch_norm REAL, total_norm REAL, out_norm REAL, cosine REAL, gain REAL, x_rms REAL,"
    " branch_rms REAL, residual REAL, finite INTEGER NOT NULL)",
    "CREATE TABLE layer_rows (trial INTEGER NOT NULL, step INTEGER NOT NULL, layer TEXT NOT NULL,"
    " depth INTEGER NOT NULL, out_grad_norm REAL, weight_norm REAL, weight_grad_norm REAL, update_norm REAL,"
    " stalled REAL, zero_grad REAL, weights INTEGER NOT NULL, dtype TEXT NOT NULL, finite INTEGER NOT NULL)",
)


@pytest.fixture
def first_schema(tmp_path: Path) -> Path:
    """A file as the first schema had it: a record a row, a NaN as text."""
    path = tmp_path / "old.db"
    RunWriter.create(path, {"model": "toy"}).trial(Trial(0, None, 0.1, 0, 2, measured=True)).close()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("blocks", "subjects", "schedules"):
            connection.execute(f"DROP TABLE {table}")
        for statement in V1:
            connection.execute(statement)
        for row in [*skips(0), *skips(1)]:
            cells = (0, *astuple(replace(row, gain="nan")))
            connection.execute(f"INSERT INTO skip_rows VALUES ({', '.join('?' * 14)})", cells)
        for layer in layers(0):
            connection.execute(f"INSERT INTO layer_rows VALUES ({', '.join('?' * 13)})", (0, *astuple(layer)))
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    return path


def test_a_file_of_the_first_schema_is_read(first_schema: Path) -> None:
    before = first_schema.read_bytes()
    run = read_run(first_schema)
    assert repr(run.skip_rows[0]) == repr(tuple(replace(r, gain=math.nan) for r in [*skips(0), *skips(1)]))
    assert run.layer_rows[0] == tuple(layers(0))
    newest = read_latest(first_schema)
    assert repr(newest.skips) == repr(tuple(replace(r, gain=math.nan) for r in skips(1)))
    assert newest.layers == tuple(layers(0))
    assert first_schema.read_bytes() == before


def test_a_file_of_the_first_schema_can_be_gone_on_with(first_schema: Path) -> None:
    write(first_schema, range(1, 3))
    run = read_run(first_schema)
    assert [(r.step, r.skip) for r in run.skip_rows[0]] == [(s, n) for s in range(3) for n in "abc"]
    assert [math.isnan(r.gain) for r in run.skip_rows[0]] == [True] * 3 + [False] * 6  # step 1 was written again
    assert [r.step for r in run.layer_rows[0]] == [0, 0, 1, 1, 2, 2]
    with closing(sqlite3.connect(first_schema)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.SCHEMA,)


def test_a_block_of_wrong_sizes_is_a_damaged_file(tmp_path: Path) -> None:
    write(tmp_path / "run.db", range(3))
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("UPDATE blocks SET figures = substr(figures, 1, 80) WHERE rowid = 3")
        connection.commit()
    with pytest.raises(RunFileError, match="whose parts have other sizes"):
        read_run(tmp_path / "run.db")
