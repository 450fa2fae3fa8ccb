"""`skipgrad watch`: a run file that a second process is writing."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skipgrad.core import LossPoint, RunFileError, SkipRow, Trial
from skipgrad.report.live import RunTail
from skipgrad.store import RunWriter, read_run

# Trains until the file STOP is there, then ends as a run does.
JOB = """
import pathlib, sys, time, torch, skipgrad as sg
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))

run, stop = map(pathlib.Path, sys.argv[1:])
net = nn.Sequential(nn.Linear(4, 8), Block(), Block(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.001)
start = time.monotonic()
with sg.watch(net, None, optimizer, run=run, steps=1_000_000) as ledger:
    while not stop.exists():
        loss = net(torch.randn(4, 4)).square().mean()
        loss.backward()
        ledger.loss(loss.item(), time.monotonic() - start)
        optimizer.step()
        optimizer.zero_grad()
        time.sleep(0.02)
"""


class Job:
    """A training in another process."""

    def __init__(self, folder: Path) -> None:
        self.run, self.stop = folder / "run.sqlite", folder / "STOP"
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(self.run), str(self.stop)], env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        until = time.monotonic() + 90
        while time.monotonic() < until:
            try:
                if RunTail(self.run).read().losses:
                    return
            except RunFileError:
                pass  # it is just being made
            assert self.process.poll() is None, "the job ended"
            time.sleep(0.1)
        raise AssertionError("no step after 90 s")

    def end(self) -> None:
        self.stop.touch()
        assert self.process.wait(60) == 0


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    job.process.kill()
    job.process.wait()


class Terminal:
    """`skipgrad watch` in a terminal of 100 columns and 30 lines."""

    def __init__(self, *words: object) -> None:
        self.ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
        command = [sys.executable, "-m", "skipgrad", "watch", *map(str, words)]
        self.process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, env=env, start_new_session=True)
        os.close(theirs)
        self.text = ""

    def until(self, word: str, most: float = 90.0) -> str:
        """Reads on until a word is shown, or the other end is closed."""
        end = time.monotonic() + most
        while word not in self.text:
            assert time.monotonic() < end, f"{word!r} is not in {self.text!r}"
            if not select.select([self.ours], [], [], 0.2)[0]:
                continue
            try:
                self.text += os.read(self.ours, 65536).decode(errors="replace")
            except OSError:  # Linux says so when the process is gone
                break
        return self.text

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.ours)


@pytest.mark.slow
def test_it_follows_a_second_process_and_ends_with_it(job: Job) -> None:
    shown = Terminal(job.run, "--every", "0.2")
    try:
        first = shown.until("written")
        assert "running" in first
        assert "steps/s" in shown.until("steps/s")
        assert " of 1,000,000 steps" in shown.until(" left")
        shown.text = ""
        shown.until("step ")
        shown.until("loss ")
        job.end()
        assert "done" in shown.until("done")
        assert shown.process.wait(60) == 0
        assert shown.process.stderr.read() == b""
    finally:
        shown.close()
    last = max(p.step for p in read_run(job.run).losses)
    assert f"step {last:,}" in shown.text


@pytest.mark.slow
def test_each_look_sees_more(job: Job) -> None:
    tail = RunTail(job.run)
    first = tail.read()
    until = time.monotonic() + 60
    while (later := tail.read()).step == first.step:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert later.step > first.step
    assert {r.skip for r in later.skips} == {"1", "2"}
    assert {r.step for r in later.skips} == {later.skips[0].step}
    assert [r.depth for r in later.layers] == sorted(r.depth for r in later.layers)
    assert later.state == "running"
    job.end()
    last = tail.read()
    assert last.state == "done"
    assert not job.run.with_name("run.sqlite-wal").exists()  # looking at it kept nothing open


@pytest.mark.slow
def test_ctrl_c_ends_the_watch_and_not_the_run(job: Job) -> None:
    shown = Terminal(job.run, "--every", "0.2")
    try:
        shown.until("running")
        shown.process.send_signal(signal.SIGINT)
        _, err = shown.process.communicate(timeout=60)
    finally:
        shown.close()
    assert shown.process.returncode == 130
    assert "interrupted" in err.decode()
    assert "the run itself goes on" in err.decode()
    assert "Traceback" not in err.decode()
    assert job.process.poll() is None


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """A run that was killed: its file says that it is running."""
    path = tmp_path / "out" / "run.sqlite"
    with RunWriter.create(path, {"model": "net", "state": "running"}) as writer:
        writer.trial(Trial(0, None, 0.1, 0, 100, measured=True))
        writer.skip_rows(0, [SkipRow(4, 0, "block", 3.0, 4.0, 5.0, 1.0, 0.0, 5.0, 1.0, 1.0, 0.0)])
        writer.losses([LossPoint(0, s, 2.0 / (s + 1), 0.5 * s) for s in range(5)])
    return path


@pytest.mark.parametrize("words", [("--once",), ()], ids=["once", "no terminal"])
def test_one_frame(cli: Any, running: Path, words: tuple[str, ...]) -> None:
    done = cli("watch", running, *words)
    assert (done.status, done.err) == (0, "")
    assert "5 of 100 steps · 2 steps/s · 47.5 s left" in done.out
    assert "36 %" in done.out
    assert "0.4 at step 4, from 2 at step 0" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    assert "\x1b" not in done.out


def test_the_folder_will_do(cli: Any, running: Path) -> None:
    assert "5 of 100 steps" in cli("watch", running.parent, "--once").out


def test_no_torch(running: Path) -> None:
    code = (
        "import sys; from skipgrad.cli import main; status = main(sys.argv[1:])\n"
        "sys.exit(status or 9 * bool({'torch', 'altair', 'jinja2'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, "watch", str(running)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_file(cli: Any, tmp_path: Path) -> None:
    done = cli("watch", tmp_path / "none.sqlite", "--once")
    assert (done.status, done.out) == (1, "")
    assert "no such file" in done.err
    assert "to do:" in done.err


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"\1" * 200])
def test_a_file_that_is_no_run(cli: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    done = cli("watch", path)
    assert (done.status, done.out) == (1, "")
    assert str(path) in done.err
    assert "to do:" in done.err


def test_an_interval_must_be_above_zero(cli: Any, running: Path) -> None:
    assert cli("watch", running, "--every", "0").status == 2


def test_help(cli: Any, snapshot: Any) -> None:
    done = cli("watch", "--help")
    assert (done.status, done.err) == (0, "")
    assert done.out == snapshot
