"""A training loop that is to be killed: it writes steps, commits each, and says so after the commit.

Run by test_kill.py in a process of its own, which makes a new process for every loop by a fork: fifty interpreters that
start would take most of the test's time. Imports no torch.
"""

from __future__ import annotations

import json
import os
import sys

from skipgrad.core import LayerRow, LossPoint, SkipRow
from skipgrad.store import RunWriter


def skip_rows(step: int, skips: int) -> list[SkipRow]:
    """Every figure tells its step and skip, so that a mixture of two steps shows."""
    return [SkipRow(step, 0, f"layers.{i}", *(float(step * skips + i),) * 9, finite=True) for i in range(skips)]


def layer_rows(step: int, skips: int) -> list[LayerRow]:
    """One a skip."""
    return [LayerRow(step, f"layers.{i}.fc", i, float(step), 1.0, float(i), None, None) for i in range(skips)]


def train(path: str, first: int, skips: int) -> None:
    """Writes steps until it is killed."""
    writer = RunWriter.append(path)
    os.write(1, f"ready {os.getpid()}\n".encode())
    step = first
    while True:
        # In pieces, as a loop does: a kill may come between any two of them.
        writer.losses([LossPoint(0, step, 1.0 / (step + 1), float(step))])
        writer.skip_rows(0, skip_rows(step, skips)).layer_rows(0, layer_rows(step, skips))
        writer.commit()
        os.write(1, f"{step}\n".encode())  # one call, so that no kill comes between the number and the end of the line
        step += 1


def main() -> None:
    """Starts a process that trains for every line of input, and tells how it ended."""
    while line := sys.stdin.readline():
        path, first, skips = json.loads(line)
        pid = os.fork()
        if pid == 0:
            train(path, first, skips)
        print(f"ended {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}", flush=True)
