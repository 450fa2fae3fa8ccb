"""self-tune: D against brute force, the rate it comes to, and that it leaves nothing behind."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import BadInput, RemedyRefused
from skipgrad.remedies.change import Change, on_branches
from skipgrad.remedies.retrofit import spots
from skipgrad.remedies.retrofit.design import short_add


class Noisy(nn.Module):
    """Blocks with batch norm and dropout, written with an add of its own."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8))
            for _ in range(depth)
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def change_of(model: nn.Module, x: torch.Tensor) -> Change:
    graph = sg.find(model, x)
    branches, _ = spots("self-tune", graph, short_add)
    shortcuts, _ = spots("self-tune", graph, short_add, "shortcut")
    return Change(model, branches, shortcuts, on_branches(graph, branches), "testing")


def test_d_is_that_of_brute_force():
    model, x, graph = cases.residual()
    change = change_of(model, x)
    ins: list[torch.Tensor] = []
    handles = [b.register_forward_pre_hook(lambda _m, args: ins.append(args[0].detach())) for b in model.blocks]
    model(x)
    for h in handles:
        h.remove()
    with torch.no_grad():
        old = [b.f(z) for b, z in zip(model.blocks, ins, strict=True)]
    change.before((x,), {})
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
        wanted = [
            float((b.f(z) - f).norm() / z.norm()) for b, z, f in zip(model.blocks, ins, old, strict=True)
        ]  # fmt: skip
    found = change.after()
    assert list(found) == [s.name for s in graph]
    assert list(found.values()) == pytest.approx(wanted, rel=1e-6)


def test_a_look_leaves_nothing_behind_and_sees_no_change_where_there_is_none():
    torch.manual_seed(0)
    model, x = Noisy(), torch.randn(16, 5)
    change = change_of(model, x)
    state, random, hooks = cases.state(model), torch.random.get_rng_state(), cases.hooks(model)
    classes = [type(m) for m in model.modules()]
    change.before((x,), {})
    found = change.after()
    # The same dropout masks in both forwards: nothing moved, so D is exactly 0.
    assert list(found.values()) == [0.0] * 3
    assert cases.same(state, cases.state(model))
    assert torch.equal(random, torch.random.get_rng_state())
    assert cases.hooks(model) == hooks
    assert [type(m) for m in model.modules()] == classes
    assert all(p.grad is None for p in model.parameters())


def train(
    rate: float, steps: int = 60, seed: int = 0, **options: float
) -> tuple[nn.Module, torch.optim.Optimizer, object]:
    torch.manual_seed(seed)
    model, x = Noisy(), torch.randn(64, 5)
    target = (x.sum(1) > 0).long()
    applied = sg.remedy("self-tune", **options).plan(sg.find(model, x)).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    applied.attach(optimizer)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
    return model, optimizer, applied


def test_the_rate_it_comes_to_does_not_depend_on_the_typed_one():
    rates = []
    for typed in (1e-4, 1e-2, 1.0):
        _, optimizer, applied = train(typed)
        rates.append(typed * applied.multiplier)
        assert optimizer.param_groups[0]["lr"] == typed  # outside a step
    assert max(rates) / min(rates) < 10  # of a factor of 10,000


def test_it_looks_often_while_it_rises_and_seldom_later():
    _, _, applied = train(0.1, steps=200, every=20)
    assert 5 < applied.looks < 100  # of 200 steps
    assert "held" in applied.notes[0]
    state = applied.state_dict()
    assert state["rising"] is False
    assert applied.multiplier <= state["cap"]


def test_a_higher_tau_is_a_higher_rate():
    low, high = (train(0.1, tau=tau)[2].multiplier for tau in (0.05, 0.5))
    assert low < high


def test_the_cap_holds_where_d_says_nothing():
    torch.manual_seed(0)
    model, _, graph = cases.residual()
    applied = sg.remedy("self-tune").plan(graph).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    applied.attach(optimizer)
    applied._held = [0.1]
    for change in [0.0] * 60 + [1.0] + [1e-9] * 60:
        applied._steer(change)
    assert applied.multiplier <= 4 * 1e4
    assert applied.multiplier == applied.state_dict()["cap"]
    applied._steer(math.nan)
    assert applied.multiplier < applied.state_dict()["cap"] * 1.01
    applied._steer(1e-9)
    assert applied.multiplier <= 4e3  # after something not finite it never rises above a tenth again


def test_undone_the_optimizer_is_the_users_again():
    model, optimizer, applied = train(0.1, steps=3)
    applied.undo()
    assert len(optimizer._optimizer_step_pre_hooks) == len(optimizer._optimizer_step_post_hooks) == 0
    assert cases.hooks(model) == 0
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_an_evaluation_between_backward_and_step_is_not_the_batch():
    torch.manual_seed(0)
    model, x = Noisy(), torch.randn(16, 5)
    applied = sg.remedy("self-tune").plan(sg.find(model, x)).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    applied.attach(optimizer)
    model(x).sum().backward()
    with torch.no_grad():
        model(torch.full((4, 5), math.nan))
    optimizer.step()
    assert math.isfinite(applied.change)


def test_bad_options_and_nets():
    with pytest.raises(BadInput, match="tau"):
        sg.remedy("self-tune", tau=0.0)
    with pytest.raises(BadInput, match="every"):
        sg.remedy("self-tune", every=0)
    _, _, graph = cases.plain()
    with pytest.raises(RemedyRefused, match="self-tune"):
        sg.remedy("self-tune").plan(graph)
    model, _, graph = cases.residual()
    applied = sg.remedy("self-tune").plan(graph).apply(model)
    applied.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(RemedyRefused, match="second optimizer"):
        applied.attach(torch.optim.SGD(model.parameters(), lr=0.1))
