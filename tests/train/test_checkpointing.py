import itertools
import random

import pytest
import torch
from torch import nn

import skipgrad as sg
from skipgrad.core import BadInput
from skipgrad.models import resolve_model
from skipgrad.train.checkpointing import Unit, choose, plan_checkpoints
from skipgrad.train.checkpointing.choose import held
from train.job.nets import Net


def gradients(model, x, seed=0):
    """Gradients, buffers after one step, and what was drawn, from the same weights and random numbers."""
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.zero_grad()
    torch.manual_seed(seed)
    model(x).float().square().mean().backward()
    drawn = torch.rand(2)
    out = {n: p.grad.clone() for n, p in model.named_parameters()}
    out |= {n: b.clone() for n, b in model.named_buffers()} | {"drawn": drawn}
    model.load_state_dict(kept)
    return out


def deep():
    torch.manual_seed(0)
    return Net(32)


@pytest.mark.parametrize(
    ("make", "shape", "memory"),
    [
        (deep, (64, 1, 8, 8), "0.75"),
        (lambda: resolve_model("skipgrad:resnet20").build(), (16, 1, 16, 16), "0.6"),
        (lambda: resolve_model("skipgrad:unet").build(), (4, 1, 32, 32), "0.8"),
    ],
    ids=["dropout and batch norm", "resnet20", "unet"],
)
def test_gradients_statistics_and_random_numbers_are_bitwise_those_without_at_less_memory(make, shape, memory):
    model, x = make().train(), torch.randn(shape)
    graph = sg.find(model, x)
    plain = gradients(model, x)
    applied = sg.checkpointed(model, graph, x, memory=memory)
    assert applied.segments
    assert applied.predicted <= float(memory) * applied.saved
    assert 0.9 * applied.predicted_saved <= applied.measured_saved <= applied.predicted_saved
    assert applied.measured_saved < 0.9 * applied.saved
    again = gradients(model, x)
    assert plain.keys() == again.keys()
    for name in plain:
        assert torch.equal(plain[name], again[name]), name
    applied.undo()
    assert all("_compiled_call_impl" not in m.__dict__ or m._compiled_call_impl is None for m in model.modules())
    assert torch.equal(gradients(model, x)["drawn"], plain["drawn"])


def test_no_block_is_cut_that_has_a_short_skip_over_it():
    model, x = deep(), torch.randn(64, 1, 8, 8)
    graph = sg.find(model, x)
    plan = plan_checkpoints(model, graph, x, memory="0.75")
    assert not any(u.path.startswith("blocks.0.") for u in plan.units)
    assert {u.path for u in plan.units} >= {"stem", "blocks", "blocks.0", "blocks.2", "head"}


def test_a_watch_sees_the_same_through_it():
    model, x = deep(), torch.randn(64, 1, 8, 8)
    graph = sg.find(model, x)
    rows = []
    for memory in (None, "0.75"):
        applied = sg.checkpointed(model, graph, x, memory=memory) if memory else None
        with sg.watch(model, graph, budget=None) as ledger:
            gradients(model, x)
        rows.append([(r.skip, r.skip_norm, r.branch_norm) for r in ledger.rows()])
        if applied is not None:
            applied.undo()
    assert rows[0] == rows[1]
    assert len(rows[0]) == 3


def test_a_budget_that_nothing_meets_says_the_least_that_can_be_had():
    model, x = deep(), torch.randn(64, 1, 8, 8)
    with pytest.raises(BadInput, match="no choice of blocks"):
        sg.checkpointed(model, None, x, memory="0.01")
    with pytest.raises(BadInput, match="no inputs"):
        sg.checkpointed(model, None, memory="0.5")
    for wrong in ("2", "fast", "-1GB", "0"):
        with pytest.raises(BadInput, match="memory"):
            sg.checkpointed(model, None, x, memory=wrong)


def test_nothing_is_done_where_nothing_need_be():
    model, x = deep(), torch.randn(4, 1, 8, 8)
    assert sg.checkpointed(model, None, x, memory="1GB").segments == ()


def tree(dice):
    """Units of random sizes: some blocks, each with a few parts."""
    units = []
    for _ in range(dice.randint(1, 3)):
        parts = [(dice.randint(0, 50), dice.randint(0, 9), dice.random()) for _ in range(dice.randint(0, 3))]
        inside = sum(p[0] for p in parts) + dice.randint(0, 30)
        units.append(
            Unit("block", len(units) + 1 + len(parts), inside, dice.randint(0, 9), sum(p[2] for p in parts) + 0.1)
        )
        for part in parts:
            units.append(Unit("part", len(units) + 1, *part))
    return units


@pytest.mark.parametrize("seed", range(40))
def test_the_choice_is_the_best_of_all(seed):
    dice = random.Random(seed)
    units = tree(dice)
    total = sum(u.inside for u in units if u.path == "block") + 40
    budget = total * dice.uniform(0.3, 1.0)
    apart = [
        c
        for k in range(len(units) + 1)
        for c in itertools.combinations(range(len(units)), k)
        if all(b >= units[a].end for a, b in itertools.combinations(c, 2))
    ]
    fits = [c for c in apart if held(units, c, total) <= budget]
    chosen, peak = choose(units, total, budget)
    assert chosen in apart
    assert peak == held(units, chosen, total)
    if fits:
        cost = min(sum(units[i].seconds for i in c) for c in fits)
        # Bytes are counted in 4,096ths, so one that fits by less than that may be missed.
        tight = [c for c in fits if held(units, c, total) <= budget - len(units) * total / 4096]
        bound = min((sum(units[i].seconds for i in c) for c in tight), default=float("inf"))
        assert cost <= sum(units[i].seconds for i in chosen) <= bound or peak > budget
        assert peak <= budget or not tight
    else:
        assert peak == min(held(units, c, total) for c in apart)


@pytest.mark.slow
def test_a_compiled_model_gets_the_budget_of_pytorchs_own():
    import torch._functorch.config as functorch

    before = functorch.activation_memory_budget
    model, x = torch.compile(deep()), torch.randn(64, 1, 8, 8)
    applied = sg.checkpointed(model, None, x, memory="0.5")
    assert functorch.activation_memory_budget == applied.share == 0.5
    model(x).sum().backward()
    applied.undo()
    assert functorch.activation_memory_budget == before


def test_buffers_that_nobody_has_are_no_trouble():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 8)) for _ in range(4)])
    x = torch.randn(256, 8)
    plain = gradients(model, x)
    applied = sg.checkpointed(model, None, x, memory="0.7")
    assert applied.segments
    assert all(torch.equal(a, gradients(model, x)[n]) for n, a in plain.items())
