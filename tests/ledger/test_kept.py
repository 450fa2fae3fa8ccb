"""What a ledger keeps of a long run: what its run file gives; and who gets every row all the same."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import skipgrad as sg
from skipgrad.core import LayerRow, LossPoint, SkipRow, Thinned
from skipgrad.ledger import Ledger
from skipgrad.ledger.kept import Kept
from skipgrad.store import RunWriter, read_run, schedule

DENSE = 16


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen steps are a long run."""
    monkeypatch.setattr(schedule, "MOST_ROWS", 1)


def skip_rows(step: int, many: int = 3, bad: bool = False) -> list[SkipRow]:
    rows = [SkipRow(step, 0, f"s{i}", *(step + 0.5,) * 9, finite=True) for i in range(many)]
    return [rows[0], replace(rows[1], total_norm=math.inf, finite=False), *rows[2:]] if bad else rows


def layer_rows(step: int, many: int = 2, bad: bool = False) -> list[LayerRow]:
    rows = [LayerRow(step, f"l{i}", i, 1.0 + step, 2.0, None, None, None) for i in range(many)]
    return [*rows[:-1], replace(rows[-1], out_grad_norm=math.nan)] if bad else rows


def steps_of(rows: Sequence[Any]) -> list[int]:
    return list(dict.fromkeys(r.step for r in rows))


def test_twenty_thousand_steps_fit_into_the_memory_of_sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "MOST_ROWS", 64 * 30)
    kept = Kept(lambda _: None)
    most = 0
    for step in range(20_000):
        kept.add_skips(skip_rows(step, 10))
        kept.add_layers(layer_rows(step, 20))
        kept.take()
        most = max(most, sum(kept.counts))
        assert most <= (64 + 1) * 30  # the multiples of the stride, and the newest
    assert most == (64 + 1) * 30
    assert kept.counts == (len(kept.skips), len(kept.layers))
    assert steps_of(kept.skips) == steps_of(kept.layers) == [*range(0, 20_000, 512), 19_999]
    assert kept.thinned == Thinned(steps=20_000, every=512, dense=64)
    assert kept.skips[-10:] == skip_rows(19_999, 10)


def test_steps_that_are_all_bad_leave_one_row_each(few: None) -> None:
    kept = Kept(lambda _: None)
    for step in range(1000):
        kept.add_skips(skip_rows(step, 50, bad=True))
    assert kept.counts[0] < 1000 + 50 * (DENSE + 2)
    assert len(steps_of(kept.skips)) == 1000


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 90),
    st.sets(st.integers(0, 89), max_size=6),
    st.sets(st.integers(0, 89), max_size=6),
    st.sampled_from([1, 3]),
)
def test_it_keeps_what_the_run_file_gives(
    tmp_path_factory: pytest.TempPathFactory, steps: int, bad_skips: set[int], bad_layers: set[int], every: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.db"
    kept = Kept(lambda _: None)
    with pytest.MonkeyPatch.context() as patch, RunWriter.create(path) as writer:
        patch.setattr(schedule, "MOST_ROWS", 1)
        for place in range(steps):
            skips = skip_rows(every * place, bad=place in bad_skips)
            layers = layer_rows(every * place, bad=place in bad_layers)
            kept.add_skips(skips[:1])  # in pieces, as two backwards of one step bring them
            kept.add_skips(skips[1:])
            kept.add_layers(layers)
            writer.skip_rows(0, skips).layer_rows(0, layers).commit()
    run = read_run(path)
    assert repr(tuple(kept.skips)) == repr(run.skip_rows[0])  # a NaN is not equal to itself
    assert repr(tuple(kept.layers)) == repr(run.layer_rows[0])
    assert kept.thinned == run.thinned.get(0)


class Block(nn.Module):
    """y = x + F(x)."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tanh(self.f(x))


def watched(steps: int, path: Path | None = None, *, optimizer: bool = True, every: int = 1, start: Any = None) -> Any:
    """A training with the ledger on; `start` is given the ledger before the first step."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), Block(), Block())
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    with sg.watch(net, optimizer=sgd if optimizer else None, every=every, run=path) as ledger:
        if start is not None:
            start(ledger)
        for _ in range(steps):
            loss = net(torch.randn(2, 4)).square().mean()
            loss.backward()
            ledger.loss(loss.item())
            sgd.step()
            sgd.zero_grad()
    return ledger


@pytest.mark.parametrize(("optimizer", "every"), [(True, 1), (False, 1), (True, 2)])
def test_a_long_watch_says_what_its_run_file_says(few: None, tmp_path: Path, optimizer: bool, every: int) -> None:
    told: tuple[list[SkipRow], list[LayerRow], list[LossPoint]] = ([], [], [])

    def start(ledger: Ledger) -> None:
        ledger.on_rows(lambda *new: [all_.extend(part) for all_, part in zip(told, new, strict=True)])

    ledger = watched(100, tmp_path / "run.db", optimizer=optimizer, every=every, start=start)
    run = read_run(tmp_path / "run.db")
    assert tuple(ledger.rows()) == run.skip_rows[0]
    assert tuple(ledger.layers()) == run.layer_rows[0]
    measured = 100 // every
    assert (
        ledger.thinned == run.thinned[0] == Thinned(measured, every=schedule.stride(measured - 1, DENSE), dense=DENSE)
    )
    assert len(told[0]) == 2 * measured  # the listener had every row,
    assert len(told[1]) == 3 * measured
    assert len(told[2]) == len(ledger.measurements().losses) == 100
    assert set(told[0]) > set(ledger.rows())
    assert [n for n in ledger.notes if "every 2nd, 4th" in n] == [n for n in run.notes if "every 2nd, 4th" in n]
    assert sum("every 2nd, 4th" in n for n in ledger.notes) == 1
    assert f"1 in {ledger.thinned.every} steps kept" in repr(ledger)
    assert ledger.measurements().skips == tuple(ledger.rows())


def test_rows_do_not_depend_on_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    every_row = watched(40).rows()
    monkeypatch.setattr(schedule, "MOST_ROWS", 1)
    thinned = watched(40).rows()
    assert steps_of(thinned) == [*range(0, 40, 4), 39]
    assert thinned == [r for r in every_row if r.step in steps_of(thinned)]


def test_a_short_watch_keeps_all_and_says_nothing(few: None) -> None:
    ledger = watched(DENSE)
    assert steps_of(ledger.rows()) == steps_of(ledger.layers()) == list(range(DENSE))
    assert ledger.thinned is None
    assert ledger.notes == []
    assert "kept" not in repr(ledger)


def test_a_feed_gives_every_row_once_also_of_a_step_that_is_not_over(few: None) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), Block(), Block())
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    taken: list[SkipRow] = []
    with sg.watch(net, optimizer=sgd, budget=None) as ledger:
        net(torch.randn(2, 4)).square().mean().backward()
        feed = ledger.feed()
        assert feed.take() == ([], [], [])  # what was before is not its
        sgd.step()
        assert [r.step for r in feed.take().layers] == [0, 0, 0]
        for step in range(1, 60):
            net(torch.randn(2, 4)).square().mean().backward()
            new = feed.take()
            assert ([r.step for r in new.skips], new.layers) == ([step, step], [])
            taken += new.skips
            sgd.step()
            assert [r.step for r in feed.take().layers] == [step, step, step]
    assert len(taken) == 2 * 59
    assert len(ledger.rows()) < 2 * 20


def test_a_feed_nobody_holds_takes_no_memory() -> None:
    kept = Kept(lambda _: None)
    feed = kept.feed(lambda: None)
    kept.add_skips(skip_rows(0))
    assert len(feed.take().skips) == 3
    del feed
    gc.collect()
    assert len(kept._feeds) == 0
