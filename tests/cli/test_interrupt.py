"""Ctrl-C in the middle of a check: what was measured is kept, and `skipgrad report` works on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from skipgrad.store import read_run


def test_ctrl_c_keeps_what_was_measured(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(out)
    try:
        wait_for_steps(process, out / "run.sqlite")
        process.send_signal(signal.SIGINT)
        told, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert told == ""
    assert "Traceback" not in err
    assert "skipgrad: interrupted\n" in err
    assert str(out / "run.sqlite") in err
    assert "skipgrad report" in err

    run = read_run(out / "run.sqlite")
    assert run.meta["state"] == "interrupted"
    assert run.losses
    assert run.measurements().layers
    report = cli("report", out)
    assert report.status == 0, report.err
    assert "interrupted" in report.out
    assert (out / "report.html").exists()


@pytest.mark.slow
def test_a_killed_run_is_kept_when_the_folder_is_used_again(cli: Any, tmp_path: Path) -> None:
    """SIGKILL leaves the run file with its log (run.sqlite-wal) beside it; a second check must lose neither."""
    out = tmp_path / "out"
    process = start(out)
    try:
        wait_for_steps(process, out / "run.sqlite")
    finally:
        process.kill()
        process.communicate(timeout=60)
    before = read_run(out / "run.sqlite")
    assert cli("check", "skipgrad:plain8", "--data", "digits", "--steps", "2", "--no-try", "--out", out).status == 0
    (kept,) = (path for path in out.glob("run.*sqlite") if path.name != "run.sqlite")
    assert read_run(kept).losses == before.losses
    assert len(read_run(out / "run.sqlite").losses) == 2


def start(out: Path) -> subprocess.Popen[str]:
    """A check that would take for ever."""
    command = "check skipgrad:plain8 --data digits --batch-size 16 --steps 100000 --lr 0.01 --out"
    return subprocess.Popen(
        [sys.executable, "-m", "skipgrad", *command.split(), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_steps(process: subprocess.Popen[str], path: Path, most: float = 90.0) -> None:
    """Until the run file holds a few steps."""
    until = time.monotonic() + most
    while time.monotonic() < until and process.poll() is None:
        if path.exists():
            try:
                if len(read_run(path).losses) >= 3:
                    return
            except Exception:  # noqa: BLE001 – it is just being made
                pass
        time.sleep(0.2)
    raise AssertionError(f"no steps after {most} s: {process.stderr.read() if process.poll() is not None else path}")
