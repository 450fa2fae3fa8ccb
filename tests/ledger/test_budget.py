"""Which steps a budget pays for, on a clock of the test's own."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import Account, BadInput, Cost
from skipgrad.ledger import Ledger, Recording, recording
from skipgrad.ledger.budget import AFTER, FIRST, PLAIN, Budget
from skipgrad.store import read_run


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(
    budget: Budget, clock: Clock, steps: int, plain: float = 1.0, extra: float = 0.2, jitter: float = 0.0
) -> list[int]:
    """The steps that were measured, where a plain step takes `plain` seconds and a measured one `extra` more."""
    dice, measured = random.Random(1), []
    for number in range(steps):
        chosen = budget.begin(number)
        if chosen:
            measured.append(number)
        clock.now += plain * (1 + jitter * dice.random()) + (extra if chosen else 0.0)
    budget.stop()
    return measured


@pytest.mark.parametrize("extra", [0.02, 0.2, 2.0])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_the_whole_costs_what_was_allowed(extra: float, jitter: float) -> None:
    clock = Clock()
    budget = Budget(0.01, clock=clock, free=0.0)
    steps = 20_000
    measured = run(budget, clock, steps, extra=extra, jitter=jitter)
    assert measured[:FIRST] == list(range(FIRST))
    assert not set(range(FIRST, FIRST + PLAIN)) & set(measured)
    real = len(measured) * extra / clock.now
    assert real <= 0.012 + FIRST * extra / clock.now
    assert budget.cost.measured == len(measured)
    assert budget.cost.seen == steps
    if not jitter:
        assert budget.cost.share == pytest.approx(real, rel=0.05)
    assert len(measured) > 3 * FIRST or extra == 2.0  # what is allowed is used


@pytest.mark.parametrize("each", [7, 50, 400])
def test_an_evaluation_after_a_measured_step_is_not_what_measuring_costs(each: int) -> None:
    clock = Clock()
    budget = Budget(0.01, clock=clock, free=0.0)
    measured = []
    for number in range(10_000):
        chosen = budget.begin(number)
        if chosen:
            measured.append(number)
        clock.now += 1.2 if chosen else 1.0
        if number % each == each - 1:
            clock.now += 60.0
    budget.stop()
    assert budget.cost.seconds == pytest.approx(0.2 * len(measured), rel=0.02)
    assert len(measured) > 3 * FIRST


def test_free_measuring_is_done_at_most_steps() -> None:
    clock = Clock()
    assert len(run(Budget(0.01, clock=clock, free=0.0), clock, 200, extra=0.0)) > 150


@pytest.mark.parametrize("period", [2, 4, 8, 50])
def test_never_in_step_with_a_period_of_the_loop(period: int) -> None:
    clock = Clock()
    measured = run(Budget(0.01, clock=clock, free=0.0), clock, 40_000, extra=0.2)[FIRST:]
    counts = [sum(n % period == k for n in measured) for k in range(period)]
    expected = len(measured) / period
    # Chi-square against an even spread; the bound is far in its tail.
    assert sum((c - expected) ** 2 / expected for c in counts) < period + 6 * math.sqrt(2 * period)


@pytest.mark.parametrize("value", [math.nan, math.inf, 50.0])
def test_where_something_jumps_the_next_steps_are_measured(value: float) -> None:
    clock = Clock()
    budget = Budget(0.01, clock=clock, free=0.0)
    run(budget, clock, 60, extra=2.0)
    for _ in range(5):
        budget.loss(1.0)
    budget.loss(value)
    assert [budget.begin(60 + k) for k in range(AFTER + 1)] == [True] * AFTER + [False]
    budget.loss(value)  # not again so soon
    assert not budget.begin(70)


def test_of_a_short_training_every_step_is_measured_but_a_few() -> None:
    clock = Clock()
    measured = run(Budget(0.01, clock=clock), clock, 200, plain=0.01, extra=0.002)
    assert len(measured) == 200 - PLAIN
    clock = Clock()
    budget = Budget(0.01, clock=clock)
    measured = run(budget, clock, 20_000, plain=0.01, extra=0.002)
    assert budget.cost.seconds <= max(1.0, 0.01 * clock.now) * 1.05


def test_every_and_none_do_as_they_say() -> None:
    clock = Clock()
    assert run(Budget(None, 3, clock), clock, 10) == [0, 3, 6, 9]
    assert run(Budget(None, 1, clock), clock, 10) == list(range(10))


def test_a_watch_spends_its_budget_and_says_so() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x = torch.randn(2, 3, 8)
    with sg.watch(model, optimizer=optimizer) as ledger:
        for _ in range(120):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    cost, account = ledger.cost, ledger.account
    assert cost.seen == 120
    assert FIRST <= cost.measured < 120  # a net this small has little to spend
    assert len({r.step for r in ledger.rows()}) == cost.measured == account.measured
    assert account.left_out == 120 - cost.measured
    assert account.adds_up
    assert set(account.rows.values()) == {cost.measured}


def test_a_share_that_is_none_is_refused() -> None:
    for share in (0, -1, 2, "1%", True):
        with pytest.raises(BadInput, match="budget="):
            sg.watch(nn.Linear(2, 2), budget=share)  # type: ignore[arg-type]


def test_the_run_file_has_the_account_while_it_runs_and_that_of_an_earlier_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ACCOUNT_PACE", 0.0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    x, before = torch.randn(2, 3, 4), Account(forwards=7, measured=3, left_out=4, cost=Cost(None, 0.0, 3, 7))
    kept = Recording(tmp_path / "run.sqlite", before=before)
    with Ledger(model, optimizer=optimizer, every=2, recording=kept) as ledger:
        for step in range(6):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
            ledger.loss(float(step))
        told = read_run(tmp_path / "run.sqlite").account
        assert told is not None
        assert 7 < told.forwards <= 7 + 6  # what was committed by then
        assert told.measured + told.left_out == told.forwards
    told = read_run(tmp_path / "run.sqlite").account
    assert (told.forwards, told.measured, told.left_out) == (13, 6, 7)
    assert told.adds_up
