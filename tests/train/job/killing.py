"""Trains in a process of its own, kills it at chosen moments and compares what is left in the end."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

from skipgrad.store import read_run

OPTIONS = ("--save-every", "0", "--measure-every", "3", "--threads", "1")


def command(out: Path, *more: str, model: str = "", data: str = "digits") -> list[str]:
    """The words of a small training into a folder."""
    model = model or f"{Path(__file__).with_name('nets.py')}:dropped"
    return [sys.executable, "-m", "skipgrad", "train", model, "--data", data, "--out", str(out), *OPTIONS, *more]


def finish(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs to the end."""
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def kill_at(words: list[str], seconds: float, how: int = signal.SIGKILL) -> int:
    """Starts, waits and kills; the exit status."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, how)
    return process.wait(120)


def kill_after_checkpoint(words: list[str], out: Path, more: float = 0.0, how: int = signal.SIGKILL) -> int:
    """Kills once the process has written a checkpoint of its own, and some seconds later; the exit status."""
    path = out / "checkpoint.safetensors"
    before = path.stat().st_mtime_ns if path.exists() else 0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() - begin < 200:
        with contextlib.suppress(FileNotFoundError):  # between two names
            if path.stat().st_mtime_ns != before:
                break
        time.sleep(0.005)
    try:
        process.wait(more)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, how)
    return process.wait(120)


def assert_same(one: Path, two: Path) -> None:
    """Weights, losses, rows and evaluations are those of the other folder, to the bit; times differ."""
    for name in ("last.safetensors", "best.safetensors"):
        a, b = load_file(one / name), load_file(two / name)
        assert a.keys() == b.keys(), name
        assert len(a) > 0
        for key in a:
            assert a[key].dtype == b[key].dtype
            assert a[key].numpy(force=True).tobytes() == b[key].numpy(force=True).tobytes(), (name, key)
    runs = [read_run(folder / "run.sqlite") for folder in (one, two)]
    losses = [[(p.step, p.loss) for p in run.losses] for run in runs]
    assert losses[0] == losses[1]
    assert len(losses[0]) > 0
    assert runs[0].skip_rows == runs[1].skip_rows
    assert runs[0].layer_rows == runs[1].layer_rows
    assert runs[0].skip_rows
    for key in ("evaluations", "steps", "state", "ended"):
        assert runs[0].meta[key] == runs[1].meta[key], key
    counts = [
        (a.forwards, a.measured, a.left_out, a.backwards, dict(a.rows), dict(a.ran)) for a in (r.account for r in runs)
    ]
    assert counts[0] == counts[1]


def moments(many: int, seed: int, longest: float) -> list[float]:
    """Seconds, drawn evenly."""
    dice = random.Random(seed)
    return [dice.uniform(0, longest) for _ in range(many)]
