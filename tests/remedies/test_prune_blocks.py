"""prune-blocks takes out what ledger and lesion call idle, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import BadInput, MeasureError, Measurements, RemedyRefused
from skipgrad.probes.lesion import Lesions, dropped
from skipgrad.remedies import remedy

PRUNE = remedy("prune-blocks")


def case():
    model, x, graph = cases.idle()
    return model, x, graph, cases.brute_force(model, x, graph)


def test_the_idle_block_goes_and_comes_back_bitwise():
    model, x, graph, measured = case()
    before, whole = cases.state(model), model(x)
    with PRUNE.plan(graph, measured).apply(model) as applied:
        assert [e.where for e in applied.plan.edits] == ["blocks.1"]
        assert not any(k.startswith("blocks.1.") for k in model.state_dict())
        torch.testing.assert_close(model(x), whole, rtol=1e-2, atol=1e-3)
        check = applied.verify(x)
        assert check.ok
        assert check.residual < 1e-12
        told = applied.compare([x], lambda out: float(out.square().mean()))
        assert told.parameters[0] - told.parameters[1] == sum(v.numel() for k, v in before.items() if "blocks.1." in k)
        assert told.score[1] == pytest.approx(told.score[0], rel=1e-2)
        assert min(told.seconds) > 0
        assert "fewer" in str(told)
        assert type(model.blocks[1]).__name__ == "Passed"  # compare leaves it as it was
    assert cases.same(before, cases.state(model))
    assert cases.hooks(model) == 0


def test_nearly_idle_is_as_with_the_branch_dropped():
    model, x, graph, _ = case()
    whole, without = model(x), dropped(model, graph, ["blocks.1"], [x])
    with PRUNE.plan(graph, cases.brute_force(model, x, graph)).apply(model) as applied:
        torch.testing.assert_close(model(x), without)
        assert not torch.equal(model(x), whole)
        assert applied.verify(x).ok


def test_what_is_not_idle_is_left_with_its_figures():
    _model, x, graph, measured = case()
    plan = PRUNE.plan(graph, measured)
    reasons = {left.skip: left.reason for left in plan.skipped}
    assert set(reasons) == {"blocks.0", "blocks.2", "blocks.3"}
    assert "not idle" in reasons["blocks.0"]
    busy, _, own = cases.residual()
    with pytest.raises(RemedyRefused, match="no block is idle"):
        PRUNE.plan(own, cases.brute_force(busy, x, own))


def test_a_lesion_has_a_say():
    _, _, graph, measured = case()
    worse = Lesions(1.0, {s.name: 1.5 for s in graph})
    with pytest.raises(RemedyRefused, match=r"the score without it is 1\.5"):
        remedy("prune-blocks", lesions=worse).plan(graph, measured)
    assert remedy("prune-blocks", lesions=worse, tolerance=0.5).plan(graph, measured).edits
    with pytest.raises(RemedyRefused, match="no lesion of it"):
        remedy("prune-blocks", lesions=Lesions(1.0)).plan(graph, measured)


def test_the_last_block_and_one_under_a_norm_are_left():
    _model, _x, graph, measured = case()
    rows = tuple(replace(r, branch_norm=0.0, branch_rms=0.0) for r in measured.skips)
    reasons = {left.skip: left.reason for left in PRUNE.plan(graph, Measurements(graph, rows)).skipped}
    assert set(reasons) == {"blocks.3"}
    assert "last of its run" in reasons["blocks.3"]
    _, _, normed = cases.post_norm()
    rows = tuple(cases.row(s.name, 1.0, 0.0, branch_rms=0.0) for s in normed)
    with pytest.raises(RemedyRefused, match="comes behind its add"):
        PRUNE.plan(normed, Measurements(normed, rows))


class Pair(nn.Module):
    """Blocks that return more than y."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Two() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)[0]
        return x


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.f(x), None


def test_a_block_that_returns_a_tuple_is_refused_before_its_first_item_is_taken_for_y():
    model, x = Pair(), torch.randn(2, 4)
    graph = sg.find(model, x)
    rows = tuple(cases.row(s.name, 1.0, 0.0, branch_rms=0.0) for s in graph)
    applied = PRUNE.plan(graph, Measurements(graph, rows)).apply(model)
    with pytest.raises(RemedyRefused, match="returns a tuple"):
        model(x)
    applied.undo()
    model(x)


def test_mistakes_are_answered():
    _, _, graph, _measured = case()
    with pytest.raises(MeasureError, match="trained net"):
        PRUNE.plan(graph)
    for bad in ({"idle": -1.0}, {"tolerance": float("nan")}):
        with pytest.raises(BadInput, match="number from 0"):
            remedy("prune-blocks", **bad)


def test_what_an_elastic_net_has_set_to_zero_is_taken_out_and_the_output_stays_bitwise():
    model, x, graph = cases.residual()
    target = torch.randn(len(x), 3, generator=torch.Generator().manual_seed(1))
    shrunk = list(model.blocks[1].f[2].parameters())
    others = [p for p in model.parameters() if all(p is not s for s in shrunk)]
    optimizer = torch.optim.SGD([{"params": others, "l1": 0.0}, {"params": shrunk, "l1": 5.0}], lr=0.02)
    elastic = sg.ElasticNet(optimizer, vectors=True)
    with sg.watch(model, graph, optimizer, budget=None) as ledger:
        for _ in range(60):
            optimizer.zero_grad()
            (model(x) - target).square().mean().backward()
            optimizer.step()
    assert not any(p.any() for p in shrunk)  # exact zeros, though the loss would have them otherwise
    assert any(p.grad is not None and p.grad.any() for p in shrunk)
    assert 0 < elastic.sparsity() < 1
    whole = model(x)
    with remedy("prune-blocks", idle=0.0).plan(graph, ledger.measurements()).apply(model) as applied:
        assert [e.where for e in applied.plan.edits] == ["blocks.1"]
        assert torch.equal(model(x), whole)
        assert applied.verify(x).ok
