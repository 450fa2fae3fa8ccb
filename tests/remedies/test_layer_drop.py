"""layer-drop leaves blocks out as often as it says, computes nothing of them, and is right on average."""

from __future__ import annotations

import copy
import math
from statistics import mean
from typing import Any

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from remedies.test_grow import calls
from skipgrad.core import BadInput, Recipe, RemedyRefused
from skipgrad.models import fit
from skipgrad.race import prepare_with
from skipgrad.remedies import Evidence, remedy
from skipgrad.remedies.layer_drop import MOST, spread
from skipgrad.train import train_trial


def dropped(steps: int | None = None, **options: object):
    model, x, graph = cases.nine()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    applied = remedy("layer-drop", steps=steps, **options).plan(graph).apply(model.train(), optimizer)
    return model, x, optimizer, applied


def test_blocks_are_dropped_as_often_as_their_rates_say_and_do_not_run() -> None:
    model, x, optimizer, applied = dropped(rate=0.4)
    ran = calls(model)
    for _ in range(400):
        model(x).mean().backward()
        optimizer.step()
    assert ran.count(8) == 400, "the last block of the run stays"
    rates = applied.rates()
    assert mean(rates) == pytest.approx(0.4)
    assert rates == sorted(rates), "unmeasured, later blocks are dropped more often"
    for k, rate in enumerate(rates):
        spread_of = math.sqrt(rate * (1 - rate) / 400)
        assert abs(1 - ran.count(k) / 400 - rate) < 4.5 * spread_of
    assert f"{1 - len([r for r in ran if r < 8]) / 3200:.0%} of the blocks' forwards" in applied.notes[0]


def test_on_average_a_block_is_what_it_was() -> None:
    model, x, _optimizer, applied = dropped(rate=0.4)
    block = model.blocks[5]
    with torch.no_grad():
        h = model.stem(x)
        whole = block.eval()(h)
        block.train()
        p = 1 - applied.rates()[5]
        gate = block.skipgrad_gate
        gate.p, gate.awake = p, True
        kept = block(h)
        gate.awake = False
        assert block(h) is h
    torch.testing.assert_close(p * kept + (1 - p) * h, whole)


def test_the_rates_rise_with_the_training() -> None:
    _, _, _, applied = dropped(steps=200, rate=0.4)
    assert not any(applied.rates())
    applied.load_state_dict({"step": 2, "left_out": 0})
    assert mean(applied.rates()) == pytest.approx(0.4 * (1 - math.exp(-1)))
    applied.load_state_dict({"step": 100, "left_out": 0})
    assert mean(applied.rates()) == pytest.approx(0.4)


def test_draws_are_of_the_step_so_that_a_training_goes_on_as_it_would_have() -> None:
    def choices(first: int) -> list[list[bool]]:
        model, _, _, applied = dropped(rate=0.5)
        out = []
        for step in range(first, 12):
            applied.load_state_dict({"step": step, "left_out": 0})
            out.append([block.skipgrad_gate.awake for block in model.blocks[:8]])
        return out

    assert choices(0)[5:] == choices(5)
    assert len({tuple(c) for c in choices(0)}) > 6


def test_measured_blocks_that_change_little_are_dropped_more() -> None:
    model, x, graph = cases.nine()
    with torch.no_grad():
        for parameter in model.blocks[2].parameters():
            parameter.mul_(0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with sg.watch(model, graph, optimizer=optimizer, budget=None) as ledger:
        for _ in range(3):
            model(x).square().mean().backward()
            optimizer.step()
    plan = remedy("layer-drop", rate=0.3).plan(graph, ledger)
    with plan.apply(model) as applied:
        rates = applied.rates()
    assert max(range(len(rates)), key=rates.__getitem__) == 2
    assert mean(rates) == pytest.approx(0.3)


@pytest.mark.parametrize("changes", [[1.0, 1.0], [1.0, 1e-9, 2.0], [0.0, 0.0, 1.0, 1.0], [3.0] * 20])
@pytest.mark.parametrize("rate", [0.05, 0.3, MOST])
def test_spread_keeps_the_mean_and_the_bound(changes: list[float], rate: float) -> None:
    rates = spread(changes, rate)
    assert mean(rates) == pytest.approx(rate)
    assert all(0 <= r <= MOST + 1e-9 for r in rates)
    for (a, r), (b, s) in zip(zip(changes, rates, strict=True), zip(changes[1:], rates[1:], strict=True), strict=False):
        assert (r >= s) if a < b else (r <= s) if a > b else r == pytest.approx(s)


def test_evaluation_and_undo_leave_nothing() -> None:
    model, x, graph = cases.nine()
    out, names = model.eval()(x), list(model.state_dict())
    applied = remedy("layer-drop").plan(graph).apply(model)
    assert torch.equal(model(x), out)
    assert applied.verify(Evidence(x)).ok
    assert list(model.state_dict()) == names
    other = copy.deepcopy(model)
    applied.undo()
    assert type(model.blocks[0]) is cases.Block
    assert torch.equal(other.train()(x), model.train()(x)), "a copy made on the way is whole afterwards"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it where a graph breaks
def test_compiled_it_is_not_compiled_anew_for_each_choice() -> None:
    model, x, graph = cases.nine()
    made: list[int] = []

    def counting(graph_module, _inputs):
        made.append(1)
        return graph_module.forward

    compiled = torch.compile(model.train(), backend=counting)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with remedy("layer-drop", rate=0.5).plan(graph).apply(compiled, optimizer):
        many = []
        for _ in range(12):
            compiled(x).mean().backward()
            optimizer.step()
            many.append(len(made))
    torch.compiler.reset()
    assert many[-1] == many[7], "choices seen later need no new code"


def test_a_trial_says_what_was_left_out_and_learns() -> None:
    workload = fit("skipgrad:resnet20", {}, "digits", batch_size=32)
    prepare, held = prepare_with("layer-drop", workload), []

    def prepared(model: nn.Module) -> Any:
        held.append(prepare(model))
        return held[-1]

    result = train_trial(workload, Recipe(steps=60, batch_size=32, optimizer="sgd", lr=0.05), prepare=prepared)
    losses = [point.loss for point in result.losses]
    assert mean(losses[-10:]) < 0.8 * mean(losses[:3])
    left = int(held[0].notes[0].partition("%")[0])
    assert 15 <= left <= 45, "about the rate, .3"


def test_a_block_that_returns_more_than_a_tensor_says_so_at_the_first_step() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return x + self.f(x), None

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks = nn.Linear(4, 4), nn.ModuleList(Two() for _ in range(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x, _ = block(x)
            return x

    model, x = Net(), torch.randn(2, 4)
    applied = remedy("layer-drop", steps=10).plan(sg.find(model, x)).apply(model.train())
    with pytest.raises(RemedyRefused, match="returns a tuple"):
        model(x)
    applied.undo()
    model(x)


@pytest.mark.parametrize(("option", "value"), [("rate", 0), ("rate", 0.9), ("rate", True), ("steps", 0), ("seed", -1)])
def test_numbers_out_of_range(option: str, value: object) -> None:
    with pytest.raises(BadInput, match=option):
        remedy("layer-drop", **{option: value})


def test_a_net_with_too_few_blocks_is_refused() -> None:
    _, _, graph = cases.residual(3)
    with pytest.raises(RemedyRefused, match="3 are the fewest"):
        remedy("layer-drop").plan(graph)
