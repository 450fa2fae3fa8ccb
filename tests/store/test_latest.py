"""The newest of a run file: what `read_run` says of it, at a price that does not grow with the file."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skipgrad.core import LossPoint, RunFileError, Trial
from skipgrad.store import Latest, RunWriter, block_rows, latest, read_latest, read_run, reader, schedule
from store.killed import layer_rows, skip_rows

SKIPS = 5


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen steps without a gap, so that small runs are long ones."""
    monkeypatch.setattr(schedule, "MOST_ROWS", 1)


def long_run(path: Path, steps: int) -> Path:
    """A running trial, after a cure that was not measured; written at once, as commits are not what is looked at."""
    with RunWriter.create(path, {"model": "net", "state": "running"}) as writer:
        writer.trial(Trial(1, "zero-init", 0.1, 0, 3, state="done")).losses([LossPoint(1, 0, 9.0, 0.0)])
        writer.trial(Trial(0, None, 0.1, 0, steps, measured=True))
        writer.losses(LossPoint(0, step, 1 / (step + 1), 0.5 * step) for step in range(steps))
        for step in {*range(0, steps, max(1, steps // 100)), steps - 1}:
            writer.skip_rows(0, skip_rows(step, SKIPS)).layer_rows(0, layer_rows(step, SKIPS))
    return path


class Work:
    """Counts what reading a file takes: SQLite's own instructions, in hundreds, and rows made of blocks."""

    def __init__(self) -> None:
        self.hundreds = self.rows = 0

    def hundred(self) -> None:
        self.hundreds += 1


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    count = Work()
    opened, unpack = reader._open, block_rows.unpack

    def open_(path: Path) -> sqlite3.Connection:
        connection = opened(path)
        connection.set_progress_handler(count.hundred, 100)
        return connection

    def unpack_(*given: object) -> list[object]:
        rows = unpack(*given)  # type: ignore[arg-type]
        count.rows += len(rows)
        return rows

    monkeypatch.setattr(reader, "_open", open_)
    monkeypatch.setattr(block_rows, "unpack", unpack_)
    return count


def test_a_look_at_a_long_file_costs_what_one_at_a_short_file_costs(tmp_path: Path, work: Work) -> None:
    spent = {}
    for steps in (2000, 200_000):
        work.hundreds = work.rows = 0
        found = read_latest(long_run(tmp_path / f"{steps}.db", steps))
        assert work.rows == 2 * SKIPS  # the last step, and nothing else
        assert len(found.losses) <= latest.MOST_LOSSES + 1
        spent[steps] = work.hundreds
    assert spent[200_000] < 1.5 * spent[2000]
    work.hundreds = 0
    read_run(tmp_path / "200000.db")
    assert work.hundreds > 20 * spent[200_000]  # the count counts


def test_what_it_says_of_a_long_run(tmp_path: Path) -> None:
    found = read_latest(long_run(tmp_path / "run.db", 10_001))
    assert found.meta == {"model": "net", "state": "running"}
    assert [t.id for t in found.trials] == [1, 0]
    assert found.current == found.measured == found.trials[1]
    assert found.skips == tuple(skip_rows(10_000, SKIPS))
    assert found.layers == tuple(layer_rows(10_000, SKIPS))
    assert [p.step for p in found.losses] == [*range(0, 10_000, 32), 10_000]
    assert found.losses[1] == LossPoint(0, 32, 1 / 33, 16.0)
    assert [p.step for p in found.recent] == list(range(10_001 - latest.RECENT, 10_001))
    assert not found.all_losses


def expected(path: Path) -> Latest:
    """The same from all that a file holds."""
    run = read_run(path, all_kept=True)
    current = next((t for t in reversed(run.trials) if t.state == "running"), None)
    current = current or next((t for t in run.trials if run.losses and t.id == run.losses[-1].trial), None)
    measured = next((t for t in reversed(run.trials) if t.id in {*run.skip_rows, *run.layer_rows}), None)
    current = current or measured or (run.trials[-1] if run.trials else None)
    losses = sorted((p for p in run.losses if current and p.trial == current.id), key=lambda p: p.step)
    skips = run.skip_rows.get(measured.id, ()) if measured else ()
    layers = run.layer_rows.get(measured.id, ()) if measured else ()
    return Latest(
        run.meta,
        run.trials,
        current,
        tuple(losses),
        True,
        tuple(losses[-latest.RECENT :]),
        measured,
        tuple(r for r in skips if r.step == skips[-1].step),
        tuple(r for r in layers if r.step == layers[-1].step),
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans(), st.booleans()), max_size=3),
    st.sets(st.integers(0, 39), max_size=3),
)
def test_of_a_short_run_it_says_what_the_whole_file_says(
    tmp_path_factory: pytest.TempPathFactory, trials: list[tuple[int, bool, bool, bool]], bad: set[int]
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.db"
    with RunWriter.create(path, {"state": "running"}) as writer:
        for number, (steps, measured, has_losses, ends) in enumerate(trials):
            trial = Trial(number, None, 0.1, 0, 40, measured=measured)
            writer.trial(trial)
            for step in range(steps):
                if has_losses:
                    writer.losses([LossPoint(number, step, math.inf if step in bad else 1.0, 0.0)])
                if measured:
                    rows = skip_rows(step, 3)
                    rows[1] = replace(rows[1], skip_norm=math.inf) if step in bad else rows[1]
                    writer.skip_rows(number, rows)
                    if step % 3 == 0:
                        writer.layer_rows(number, layer_rows(step, 3))
                writer.commit()
            if ends:
                writer.trial(replace(trial, state="done"))
    assert read_latest(path) == expected(path)


def test_a_loss_that_is_written_again_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunWriter.create(tmp_path / "run.db") as writer:
        writer.trial(Trial(0, None, 0.1, 0, 100))
        for loss, steps in ((1.0, range(60)), (2.0, range(40, 100))):
            writer.losses(LossPoint(0, step, loss, 0.0) for step in steps)
    whole = read_latest(tmp_path / "run.db")
    assert [(p.step, p.loss) for p in whole.losses] == [(s, 1.0 + (s >= 40)) for s in range(100)]
    monkeypatch.setattr(latest, "MOST_LOSSES", 20)
    assert [(p.step, p.loss) for p in read_latest(tmp_path / "run.db").losses] == [
        (s, 1.0 + (s >= 40)) for s in [*range(0, 99, 8), 99]
    ]


def test_files_without_an_index_are_read_and_get_one_when_they_are_gone_on_with(tmp_path: Path) -> None:
    path = long_run(tmp_path / "run.db", 2000)
    before = read_latest(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP INDEX losses_step")
        connection.commit()
    assert read_latest(path) == before
    RunWriter.append(path).close()
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")]
    assert "losses_step" in names


def test_an_empty_run(tmp_path: Path) -> None:
    RunWriter.create(tmp_path / "run.db", {"state": "running"}).close()
    assert read_latest(tmp_path / "run.db") == Latest({"state": "running"})


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = long_run(tmp_path / "run.db", 20)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE blocks SET figures = substr(figures, 1, 80)")
        connection.commit()
    with pytest.raises(RunFileError, match="whose parts have other sizes"):
        read_latest(path)
    with pytest.raises(RunFileError, match="no such file"):
        read_latest(tmp_path / "none.db")
