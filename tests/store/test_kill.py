"""Killed at any moment, a run file opens and ends at the last committed step, whole; fifty times on one file."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipgrad.core import LossPoint, Run, Trial
from skipgrad.store import RunWriter, read_latest, read_run, schedule
from store.killed import layer_rows, skip_rows

KILLS, SKIPS, DENSE = 50, 40, 32


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schedule that thins soon, so that most kills hit a step that gives way to the next."""
    monkeypatch.setattr(schedule, "MOST_ROWS", DENSE * 2 * SKIPS)


@pytest.fixture
def nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that starts training loops."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from store import killed; killed.main()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:  # type: ignore[call-overload]
        yield process
        assert process.stdin is not None
        process.stdin.close()


def told_until_killed(nursery: subprocess.Popen[str], path: Path, first: int, after: float) -> int:
    """The last step the loop said it had committed before it was killed; ``first - 1`` when none."""
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    print(json.dumps([str(path), first, SKIPS]), file=nursery.stdin, flush=True)
    ready, pid = nursery.stdout.readline().split()
    assert ready == "ready"
    time.sleep(after)
    os.kill(int(pid), signal.SIGKILL)
    told = first - 1
    for line in nursery.stdout:
        if line.startswith("ended "):
            assert line == f"ended {-signal.SIGKILL}\n"
            return told
        told = int(line)
    raise AssertionError("the process that starts the loops has ended")


def assert_whole(run: Run, told: int) -> int:
    """The file's last step, which holds what was told, and no step of it is half there; returns it."""
    last = max(r.step for r in run.skip_rows[0])
    assert told <= last <= told + 1  # killed between the commit and the telling
    assert [p.step for p in run.losses] == list(range(last + 1))
    assert max(r.step for r in run.layer_rows[0]) == last
    for step in {r.step for r in run.skip_rows[0]} | {r.step for r in run.layer_rows[0]}:
        assert [r for r in run.skip_rows[0] if r.step == step] == skip_rows(step, SKIPS)
        assert [r for r in run.layer_rows[0] if r.step == step] == layer_rows(step, SKIPS)
    return last


def test_fifty_kills_at_random_moments(tmp_path: Path, few: None, nursery: subprocess.Popen[str]) -> None:
    path = tmp_path / "run.db"
    with RunWriter.create(path, {"state": "running"}) as writer:
        writer.trial(Trial(0, None, 0.1, 0, 0, measured=True))
        writer.skip_rows(0, skip_rows(0, SKIPS)).layer_rows(0, layer_rows(0, SKIPS))
        writer.losses([LossPoint(0, 0, 1.0, 0.0)])
    rng = random.Random(20261121)
    last, grown = 0, 0
    for _ in range(KILLS):
        told = told_until_killed(nursery, path, last + 1, rng.uniform(0.0, 0.06))
        newest = read_latest(path)  # before anything mends the file
        now = assert_whole(read_run(path), told)
        assert newest.skips == tuple(skip_rows(now, SKIPS))
        assert newest.layers == tuple(layer_rows(now, SKIPS))
        assert newest.recent[-1] == LossPoint(0, now, 1.0 / (now + 1), float(now))
        grown += now > last
        last = now
    assert grown > KILLS // 5  # the kills came while steps were being written, on a busy machine too
    with RunWriter.append(path) as writer:
        writer.skip_rows(0, skip_rows(last + 1, SKIPS)).layer_rows(0, layer_rows(last + 1, SKIPS)).commit()
    run = read_run(path)
    assert {r.step for r in run.skip_rows[0]} >= {0, last + 1}
    assert run.thinned[0].steps == last + 2
    # Over all the kills nothing was lost that the schedule keeps, and nothing stayed that it does not.
    stayed = {r.step for r in read_run(path, all_kept=True).skip_rows[0]}
    assert stayed == {s for s in range(last + 1) if schedule.is_kept(s, DENSE)} | {last + 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.db"]
