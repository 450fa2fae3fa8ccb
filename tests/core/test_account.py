"""The account of a watch: it adds up, is written and read, and says what a person wants to know."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import Account, Cost
from skipgrad.report import parts


class Routed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.both = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.a(x)
        return x + self.b(x) if self.both else x


def test_an_account_says_what_ran_and_what_did_not() -> None:
    account = Account(10, 6, 3, {"under torch.func": 1}, 5, 1, {"a": 6, "b": 2, "c": 0}, {"a": 5, "b": 2},
                      cost=Cost(0.0123, 1.0, 6, 9))  # fmt: skip
    assert account.adds_up
    assert account.lines() == [
        "6 of 9 steps measured, 1.2 % of the time",
        "10 forwards: 6 measured, 3 left out to save time, 1 not measured: under torch.func, "
        "1 of the measured without a backward",
        "skips that ran in a part of the 6 forwards: b in 2",
        "skips of the graph that never ran: c",
    ]
    assert Account.from_dict(account.to_dict()) == account
    assert not Account(2, 1).adds_up
    assert not Account(1, 1, ran={"a": 0}, rows={"a": 1}).adds_up


def test_a_run_file_has_the_account_and_the_report_says_it(tmp_path: Path) -> None:
    model, x = Routed(), torch.ones(2, 4)
    path = tmp_path / "run.sqlite"
    with sg.watch(model, sg.find(model, x), run=path) as ledger:
        for both in (True, False, True):
            model.both = both
            model(x).sum().backward()
    run = sg.read_run(path)
    assert run.account is not None
    assert run.account.ran == {"root": 3, "root#2": 2}
    assert run.measurements().account == run.account
    assert run.account.rows == ledger.account.rows
    (told,) = (text for name, text in parts(run).facts if name == "measured")
    assert "3 forwards: 3 measured" in told
    assert "root#2 in 2" in told
