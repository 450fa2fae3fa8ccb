"""Looks at D while a training goes on."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import BadInput, ChangeRow, Recipe, RemedyRefused
from skipgrad.models import fit
from skipgrad.race import find_skips
from skipgrad.remedies import changes
from skipgrad.store import read_run
from skipgrad.train import train_trial

WORK = fit("skipgrad:resnet8", {"norm": "none"}, "digits", batch_size=16)
GRAPH = find_skips(WORK.build(), WORK)
RECIPE = Recipe(steps=12, batch_size=16, lr=0.02)


def trained(recipe: Recipe, look: bool = True, ledger_file=None):
    rows: list[ChangeRow] = []

    @contextmanager
    def observe(model, optimizer):
        with sg.watch(model, GRAPH, optimizer=optimizer, run=ledger_file) as ledger:
            if not look:
                yield
                return
            told = ledger.change_at if ledger_file else rows.append
            with changes(model, GRAPH, optimizer, every=3, told=told) as seen:
                yield
            rows[:] = seen
            assert ledger.measurements().changes == (tuple(seen) if ledger_file else ())

    return train_trial(WORK, recipe, observe=observe), rows


def test_they_change_nothing_and_grow_with_the_rate(tmp_path):
    plain, _ = trained(RECIPE, look=False)
    looked, rows = trained(RECIPE, ledger_file=tmp_path / "run.sqlite")
    assert [p.loss for p in looked.losses] == [p.loss for p in plain.losses]
    assert [r.step for r in rows] == [2, 5, 8, 11]
    assert {r.rate for r in rows} == {0.02}
    assert {r.skips for r in rows} == {3}
    assert all(0 < r.most_change < r.change for r in rows)
    run = read_run(tmp_path / "run.sqlite")
    assert run.measurements().changes == tuple(rows)
    _, low = trained(replace(RECIPE, lr=0.002))
    assert 3 < rows[0].change / low[0].change < 30


def test_a_net_without_branches_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RemedyRefused, match="none of them a short add"), changes(
        model, sg.find(model, torch.randn(2, 4)), optimizer
    ):  # fmt: skip
        pass


class Fickle(nn.Module):
    """Takes another route without gradient."""

    def __init__(self):
        super().__init__()
        self.f, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        if not torch.is_grad_enabled() and x.sum() != 0:
            raise ValueError("only for training")
        return self.head(x + self.f(x))


def test_a_look_that_cannot_be_had_ends_the_looks_and_not_the_training():
    model = Fickle()
    graph = sg.find(model, torch.zeros(2, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    failed: list[Exception] = []

    def step():
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()

    with changes(model, graph, optimizer, every=1, failed=failed.append) as rows:
        step()
        step()
    assert rows == []
    assert len(failed) == 1
    assert "only for training" in str(failed[0])
    with pytest.raises(sg.SkipgradError, match="only for training"), changes(model, graph, optimizer, every=1):
        step()
    step()  # the hooks are gone


@pytest.mark.parametrize("tuned_at", [1, 2])
def test_d_is_that_of_the_branches_as_an_edit_made_them(tuned_at: int):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(8, 8)

        def forward(self, x):
            return x + self.f(x)

    model, x = nn.Sequential(Block(), Block(), nn.Linear(8, 2)), torch.randn(4, 8)
    graph = sg.find(model, x)
    sg.remedy("depth-transfer", tuned_at=tuned_at, zero=False).plan(graph).apply(model)  # F/m, m = 2 / tuned_at
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    streams: list[torch.Tensor] = []
    model[0].f.register_forward_pre_hook(lambda _m, args: streams.append(args[0].detach()))
    model[1].f.register_forward_pre_hook(lambda _m, args: streams.append(args[0].detach()))
    with changes(model, graph, optimizer, every=1) as rows:
        model(x).square().sum().backward()
        own = [(b.f.weight.grad.clone(), b.f.bias.grad.clone()) for b in model[:2]]
        optimizer.step()
    moved = [0.1 * (s @ w.T + b).norm() / s.norm() for s, (w, b) in zip(streams, own, strict=False)]
    assert rows[0].change == pytest.approx(float(sum(moved)) * tuned_at / 2, rel=1e-4)


@pytest.mark.parametrize("every", [0, 1.5, True])
def test_bad_intervals(every):
    model = Fickle()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(BadInput, match="every"), changes(
        model, sg.find(model, torch.zeros(2, 4)), optimizer, every=every
    ):  # fmt: skip
        pass
