"""auto does what the diagnosis of one batch prescribes, then steers the rate on the net that has become of it."""

from __future__ import annotations

import pytest
import torch

import skipgrad as sg
from remedies import cases
from skipgrad.core import MeasureError, RemedyRefused
from skipgrad.models import fit
from skipgrad.race import find_skips, prepare_with
from skipgrad.remedies import remedy


def deep_plain():
    """A plain net whose first layers get next to no gradient."""
    work = fit("skipgrad:plain20", {"norm": "none"}, "digits", batch_size=16)
    torch.manual_seed(0)
    model = work.build()
    return work, model


def test_a_plain_net_gets_skips_and_its_new_branches_are_steered_by() -> None:
    work, model = deep_plain()
    before = cases.state(model)
    assert len(find_skips(model, work)) == 0
    applied = prepare_with("auto", work)(model)
    assert [p.plan.remedy for p in applied.parts] == ["add-skips", "grow", "self-tune"]
    assert len(find_skips(model, work)) > 5
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    applied.attach(optimizer)
    batches = work.batches(0)
    for _ in range(3):
        batch = next(batches)
        optimizer.zero_grad()
        work.loss(model(*batch.args), batch).backward()
        optimizer.step()
    assert 1 <= applied.parts[-1].looks <= 3
    told = applied.state_dict()
    assert list(told) == ["grow", "self-tune"]
    applied.load_state_dict(told)
    applied.undo()
    assert model.state_dict().keys() == before.keys()
    assert len(find_skips(model, work)) == 0
    assert cases.hooks(model) == 0


def test_a_healthy_net_is_steered_alone_and_undo_is_bitwise() -> None:
    model, x, graph = cases.residual()
    before = cases.state(model)
    applied = remedy("auto").treat(model, graph, measured=cases.brute_force(model, x, graph))
    assert [p.plan.remedy for p in applied.parts] == ["self-tune"]
    assert applied.verify(x).ok
    applied.undo()
    assert cases.same(before, cases.state(model))


def test_on_the_plan_alone_the_rate_of_a_plain_net_is_not_steered_and_it_says_so() -> None:
    work, model = deep_plain()
    graph = find_skips(model, work)
    batch = next(work.batches(0))
    with sg.watch(model, graph, budget=None) as ledger:
        work.loss(model(*batch.args), batch).backward()
    model.zero_grad()
    plan = remedy("auto").plan(graph, ledger)
    assert {left.skip for left in plan.skipped} == {"its depth", "the rate"}
    with plan.apply(model) as applied:
        assert [p.plan.remedy for p in applied.parts] == ["add-skips"]


def test_it_needs_figures_and_refuses_where_there_is_nothing_to_do() -> None:
    _model, x, graph = cases.residual()
    with pytest.raises(MeasureError, match="no measurements"):
        remedy("auto").plan(graph)
    net, y, own = cases.unet()
    with sg.watch(net, own, budget=None) as ledger:
        net(y).square().mean().backward()
    with pytest.raises(RemedyRefused, match="prescribes nothing"):
        remedy("auto").plan(own, ledger)
    assert x is not None


def test_a_net_with_blocks_in_a_row_is_grown_and_steered_by_the_branches_that_are_there() -> None:
    work = fit("skipgrad:preln12", {}, "text", batch_size=2)
    torch.manual_seed(0)
    model = work.build()
    before = cases.state(model)
    applied = prepare_with("auto", work)(model)
    assert [p.plan.remedy for p in applied.parts] == ["grow", "self-tune"]
    grown, steered = applied.parts
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    applied.attach(optimizer)
    applied.lasts(24)
    there, batches = [], work.batches(0)
    for _ in range(24):
        batch = next(batches)
        optimizer.zero_grad()
        loss = work.loss(model(*batch.args, **batch.kwargs), batch)
        loss.backward()
        optimizer.step()
        applied.loss(loss)
        there.append(grown.there)
    assert there[0] == 3
    assert there[-1] == 11
    assert applied.whole
    assert steered.looks >= 2
    assert steered.change > 0
    assert set(applied.state_dict()) == {"grow", "self-tune"}
    applied.undo()
    assert model.state_dict().keys() == before.keys()
    assert cases.hooks(model) == 0
    assert not any(hasattr(m, "skipgrad_gate") for m in model.modules())


def test_without_growth_where_one_does_not_want_it() -> None:
    work = fit("skipgrad:preln12", {}, "text", batch_size=2)
    applied = prepare_with("auto", work, options={"grow": False})(work.build())
    assert [p.plan.remedy for p in applied.parts] == ["self-tune"]
    assert applied.whole
