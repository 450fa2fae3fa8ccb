"""How a watch ended is in its run file: done, interrupted, or failed and why; and how far it meant to go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import BadInput, DataError
from skipgrad.report import parts
from skipgrad.report.live import RunTail, view
from skipgrad.store import read_run


class Block(nn.Module):
    """y = x + F(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.f(x))


def train(path: Path, error: BaseException | None = None, **given: Any) -> None:
    """Three steps of ten, then what ends it."""
    net = nn.Sequential(nn.Linear(4, 4), Block())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with sg.watch(net, None, optimizer, run=path, **given) as ledger:
        for step in range(3):
            loss = net(torch.randn(2, 4)).square().mean()
            loss.backward()
            ledger.loss(loss.item(), 0.5 * step)
            optimizer.step()
            optimizer.zero_grad()
        if error is not None:
            raise error


FAILURES = {
    "ours": (
        DataError("loading data", where="here", todo="mend it"),
        "DataError: loading data where: here to do: mend it",
    ),
    "theirs": (RuntimeError("mat1 and mat2\n  do not fit"), "RuntimeError: mat1 and mat2 do not fit"),
    "without a word": (ValueError(), "ValueError"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_is_a_failure_and_the_file_says_which(tmp_path: Path, name: str) -> None:
    error, text = FAILURES[name]
    with pytest.raises(type(error)):
        train(tmp_path / "run.db", error)
    run = read_run(tmp_path / "run.db")
    assert (run.meta["state"], run.meta["error"], run.meta["steps"]) == ("failed", text, 3)
    assert (run.trials[0].state, run.trials[0].steps) == ("interrupted", 3)
    assert {r.step for r in run.skip_rows[0]} == {0, 1, 2}
    assert f"The run failed: {text}." in parts(run).missing
    lines = [line.plain for line in view(RunTail(tmp_path / "run.db").read(), 100)]
    assert lines[1].startswith("failed")
    assert lines[2].split(maxsplit=1) == ["error", text]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_ctrl_c_and_exit_interrupt(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        train(tmp_path / "run.db", error)
    run = read_run(tmp_path / "run.db")
    assert (run.meta["state"], run.trials[0].state) == ("interrupted", "interrupted")
    assert "error" not in run.meta
    assert "The run was interrupted." in parts(run).missing


def test_a_run_that_ends_by_itself_is_done(tmp_path: Path) -> None:
    train(tmp_path / "run.db")
    run = read_run(tmp_path / "run.db")
    assert (run.meta["state"], run.trials[0].state, run.trials[0].steps) == ("done", "done", 3)
    assert "error" not in run.meta


def test_planned_steps_are_there_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    net = nn.Sequential(nn.Linear(4, 4), Block())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with sg.watch(net, None, optimizer, run=path, steps=10) as ledger:
        assert (read_run(path).trials[0].steps, read_run(path).meta["steps"]) == (10, 10)
        for step in range(4):
            net(torch.randn(2, 4)).square().mean().backward()
            ledger.loss(1.0, 0.5 * step)
            optimizer.step()
        line = view(RunTail(path).read(), 100, pace=2.0)[1].plain
        assert line.startswith("running   4 of 10 steps · 2 steps/s · 3.0 s left")
    run = read_run(path)
    assert (run.trials[0].steps, run.meta["steps"]) == (4, 4)


@pytest.mark.parametrize("steps", [-1, 2.5, "10", None])
def test_a_number_of_steps_that_is_none_is_refused(tmp_path: Path, steps: Any) -> None:
    with pytest.raises(BadInput, match="steps="):
        sg.watch(nn.Linear(2, 2), run=tmp_path / "run.db", steps=steps)
