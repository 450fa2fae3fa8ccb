"""grow begins with few blocks and ends with all; a block that comes in changes nothing; nothing of it leaks."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import BadInput, MeasureError, Recipe, RemedyRefused
from skipgrad.models import fit
from skipgrad.race import first_at, prepare_with
from skipgrad.remedies import Evidence, remedy
from skipgrad.remedies.grow import shares, stages
from skipgrad.train import TrialResult, train_trial


def calls(model: nn.Module) -> list[int]:
    """Lists the blocks whose branch runs in a forward."""
    ran: list[int] = []
    for i, block in enumerate(model.blocks):
        block.f[0].register_forward_hook(lambda *_, i=i: ran.append(i))
    return ran


def test_a_quarter_of_the_blocks_runs_at_first_then_half_then_all() -> None:
    model, x, graph = cases.nine()
    applied = remedy("grow", steps=30).plan(graph).apply(model)
    model(x)  # the first forward looks at each block that is left out
    ran = calls(model)
    model(x)
    assert len(ran) == 3  # two of the eight, and the last one, which is not left out
    assert (applied.there, applied.whole) == (2, False)
    for _ in range(10):
        applied.loss(1.0)
    ran.clear()
    model(x)
    assert len(ran) == 5
    for _ in range(10):
        applied.loss(1.0)
    ran.clear()
    model(x)
    assert ran == list(range(9))
    assert applied.whole
    assert applied.grown_at == (10, 20)
    assert "8 of 8 blocks are there, grown at step 10 and 20" in applied.notes[0]


@pytest.mark.parametrize("start", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("many", [2, 3, 8, 23])
def test_blocks_come_in_evenly_spread_and_all_of_them(many: int, start: float) -> None:
    found, at = stages(many, start), shares(start)
    assert len(found) == many
    assert set(found) <= set(range(len(at)))
    for stage, share in enumerate(at):
        there = [i for i, s in enumerate(found) if s <= stage]
        assert len(there) == max(1, round(share * many))
        gaps = [b - a for a, b in zip([-1, *there], [*there, many], strict=True)]
        assert max(gaps) <= 2 * min(g for g in gaps if g > 0) + 1


def test_a_growth_leaves_the_output_as_it_is_also_in_the_middle_of_a_training() -> None:
    model, x, graph = cases.nine()
    applied = remedy("grow", steps=30).plan(graph).apply(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    applied.attach(optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        before = model(x).detach()
        applied.loss(1.0)
    assert applied.stage == 1
    assert float((model(x).detach() - before).abs().max()) <= 1e-12 * float(before.abs().max())
    assert applied.verify(Evidence(x)).ok


def test_the_slope_decides_where_the_length_is_not_known() -> None:
    model, _, graph = cases.nine()
    applied = remedy("grow").plan(graph).apply(model)
    for i in range(60):
        applied.loss(10.0 - 0.1 * i)  # falls as fast as ever
    assert applied.stage == 0
    for _ in range(40):
        applied.loss(4.0)
    assert applied.stage == 1
    assert 60 < applied.grown_at[0] <= 100
    before = applied.grown_at[0]
    for _ in range(60):
        applied.loss(4.0)
    assert applied.whole
    assert applied.grown_at[1] - before >= 40  # two windows


def test_copies_and_pickles_made_on_the_way_are_whole_in_the_end() -> None:
    model, x, graph = cases.nine()
    names = list(model.state_dict())
    applied = remedy("grow", steps=30).plan(graph).apply(model)
    mean, stored = copy.deepcopy(model), pickle.dumps(model)
    assert list(model.state_dict()) == names
    assert type(model.blocks[0]).__name__ == "Block"
    loaded = pickle.loads(stored)
    assert type(loaded.blocks[0]) is cases.Block
    mean(x)
    ran = calls(mean)
    for _ in range(20):
        applied.loss(1.0)
    mean(x)
    assert len(ran) == 9, "a running mean of the weights grows with the net"
    applied.undo()
    assert type(model.blocks[0]) is cases.Block


def test_a_watch_measures_the_blocks_that_ran_and_no_others() -> None:
    model, x, graph = cases.nine()
    remedy("grow", steps=30).plan(graph).apply(model)
    with sg.watch(model, graph, budget=None) as ledger:
        model(x).square().mean().backward()
    ran = {row.skip for row in ledger.measurements().skips}
    assert len(ran) == 3
    assert ran < {s.name for s in graph.skips}
    assert len(sg.find(model, x)) == 3


def test_a_checkpoint_goes_on_where_it_was() -> None:
    model, x, graph = cases.nine()
    applied = remedy("grow", steps=30).plan(graph).apply(model)
    for _ in range(12):
        applied.loss(1.0)
    told = applied.state_dict()
    other, _, _ = cases.nine()
    again = remedy("grow", steps=30).plan(graph).apply(other)
    again.load_state_dict(pickle.loads(pickle.dumps(told)))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    for _ in range(8):
        applied.loss(1.0)
        again.loss(1.0)
    assert again.grown_at == applied.grown_at == (10, 20)


def test_behind_norms_too_and_it_promises_less() -> None:
    work = fit("skipgrad:postln8", {}, "text", batch_size=2)
    torch.manual_seed(0)
    model = work.build()
    graph = sg.find(model, *work.example.args)
    plan = remedy("grow").plan(graph)
    assert plan.promise == ""
    assert plan.apply(model).verify(Evidence(work.example.args)).ok


def test_in_a_trial_it_is_told_the_length_and_the_losses_and_ends_whole() -> None:
    work = fit("skipgrad:resnet20", {}, "digits", batch_size=8)
    held = []

    def prepare(model: nn.Module):
        held.append(prepare_with("grow", work)(model))
        return held[0]

    result = train_trial(work, Recipe(steps=24, batch_size=8, lr=0.05), prepare=prepare)
    assert held[0].whole
    assert held[0].grown_at[-1] == result.whole_from <= 16
    assert len(result.losses) == 24


def test_a_target_counts_once_the_net_is_whole() -> None:
    work = fit("skipgrad:resnet8", {}, "digits", batch_size=8)
    done = train_trial(work, Recipe(steps=12, batch_size=8, lr=0.05))
    high = max(p.loss for p in done.losses) + 1
    assert first_at(done, high) == 2
    grown = TrialResult(done.trial, done.losses, whole_from=7)
    assert first_at(grown, high) == 7


def test_no_losses_told_is_said_and_fused_sgd_is_refused() -> None:
    model, x, graph = cases.nine()
    plan = remedy("grow", steps=20).plan(graph)
    applied = plan.apply(model)
    with pytest.raises(RemedyRefused, match="fused SGD"):
        applied.attach(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    applied.attach(optimizer)
    with pytest.raises(RemedyRefused, match="second optimizer"):
        applied.attach(optimizer)
    model(x).square().mean().backward()
    for _ in range(16):  # two windows
        optimizer.step()
    with pytest.raises(MeasureError, match=r"applied\.loss\(loss\)"):
        optimizer.step()


class Odd(cases.Block):
    """Adds something behind its add, which no graph of adds shows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.gain


def test_a_block_that_is_not_its_input_at_zero_is_refused_at_the_first_forward() -> None:
    model, x, graph = cases.nine()
    model.blocks[4].__class__ = Odd
    model.blocks[4].gain = 1.5
    remedy("grow").plan(graph).apply(model)
    with pytest.raises(RemedyRefused, match="changes x by"):
        model(x)


@pytest.mark.parametrize(("name", "value"), [("start", 0), ("start", 1.0), ("start", "half"), ("steps", 0)])
def test_bad_options(name: str, value: object) -> None:
    with pytest.raises(BadInput, match="setting up grow"):
        remedy("grow", **{name: value})


def test_too_few_blocks_in_a_row() -> None:
    _, _, graph = cases.residual()
    with pytest.raises(RemedyRefused, match="3 blocks in a row can be left out"):
        remedy("grow").plan(graph)


def test_a_compiled_model_grows_as_the_plain_one() -> None:
    model, x, graph = cases.nine()
    applied = remedy("grow", steps=30).plan(graph).apply(model)
    compiled = torch.compile(model, backend="eager")
    for _ in range(3):
        assert torch.equal(compiled(x), model(x))
        with torch.no_grad():
            for block in model.blocks:  # so that a block that is not there would be missed
                block.f[2].weight.add_(0.1)
        for _ in range(10):
            applied.loss(1.0)
    assert applied.whole
    assert torch.equal(compiled(x), model(x))


def test_in_distributed_data_parallel_it_asks_for_what_that_needs() -> None:
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model, x, graph = cases.nine()
        plan = remedy("grow", steps=6).plan(graph)
        with pytest.raises(RemedyRefused, match="find_unused_parameters=True"):
            plan.apply(nn.parallel.DistributedDataParallel(model))
        parallel = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        applied = plan.apply(parallel)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        applied.attach(optimizer)
        for _ in range(6):
            optimizer.zero_grad()
            loss = parallel(x).square().mean()
            loss.backward()
            optimizer.step()
            applied.loss(loss)
        assert applied.whole
    finally:
        dist.destroy_process_group()
