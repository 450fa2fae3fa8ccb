"""depth-transfer: the factor on the branches, the optimizer's groups, and both given back."""

from __future__ import annotations

import pytest
import torch

import skipgrad as sg
from remedies import cases
from skipgrad.core import BadInput, RemedyRefused


def applied_to(depth: int, tuned_at: int, make: type, **options: object):
    model, x, graph = cases.residual(depth)
    before = cases.state(model)
    optimizer = make(model.parameters(), lr=0.1)
    applied = sg.remedy("depth-transfer", tuned_at=tuned_at, **options).plan(graph).apply(model, optimizer)
    return model, x, before, optimizer, applied


def test_branches_are_divided_by_m():
    model, x, graph = cases.residual(6)
    with torch.no_grad():
        z = model.stem(x)
        for block in model.blocks:
            z = z + block.f(z) / 3
        wanted = model.head(z)
        with sg.remedy("depth-transfer", tuned_at=2, zero=False).plan(graph).apply(model):
            assert torch.allclose(model(x), wanted, rtol=1e-12)
        with sg.remedy("depth-transfer", tuned_at=2).plan(graph).apply(model):
            assert torch.allclose(model(x), model.head(model.stem(x)), rtol=1e-12)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_the_optimizers_groups(make: type):
    model, x, before, optimizer, applied = applied_to(6, 2, make)
    branch = {id(p) for b in model.blocks for p in b.parameters()}
    groups = [({id(p) for p in g["params"]}, g) for g in optimizer.param_groups]
    assert set().union(*(ids for ids, _ in groups)) == {id(p) for p in model.parameters()}
    (mine,) = [g for ids, g in groups if ids == branch]
    (rest,) = [g for ids, g in groups if not ids & branch]
    if make is torch.optim.SGD:
        assert (mine["lr"], rest["lr"]) == (pytest.approx(0.3), 0.1)
    else:
        assert mine["lr"] == rest["lr"] == 0.1
        assert (mine["eps"], rest["eps"]) == (pytest.approx(1e-8 / 3), 1e-8)
    assert applied.verify(x).ok, str(applied.verify(x))
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    # A schedule moves all groups alike; what is given back is today's rate without our factor.
    for g in optimizer.param_groups:
        g["lr"] *= 0.5
    applied.undo()
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
    optimizer.step()
    assert list(before) == list(model.state_dict())


def test_at_the_depth_that_was_tuned_only_the_zeros_are_new():
    model, x, _, optimizer, applied = applied_to(4, 4, torch.optim.SGD)
    assert {g["lr"] for g in optimizer.param_groups} == {0.1}
    applied.undo()
    applied = sg.remedy("depth-transfer", tuned_at=4, zero=False).plan(sg.find(model, x)).apply(model)
    out = model(x)
    applied.undo()
    assert torch.equal(out, model(x))


def test_the_first_steps_change_a_deep_net_as_a_shallow_one():
    """What it is for: at one rate, the change of the output in a step depends little on depth; without it, much."""

    def moved(depth: int, cured: bool) -> float:
        model, x, graph = cases.residual(depth)
        with torch.no_grad():
            for block in model.blocks:
                block.f[2].weight.normal_(0, 0.3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        if cured:
            sg.remedy("depth-transfer", tuned_at=2).plan(graph).apply(model, optimizer)
        before = model(x).detach()
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return float((model(x).detach() - before).norm() / before.norm())

    with_it = moved(32, True) / moved(2, True)
    without = moved(32, False) / moved(2, False)
    assert 0.5 < with_it < 2
    assert abs(with_it - 1) < abs(without - 1)


def test_what_is_refused():
    for bad in (0, -1, 2.5, True):
        with pytest.raises(BadInput, match="tuned_at"):
            sg.remedy("depth-transfer", tuned_at=bad)
    model, _, graph = cases.residual()
    applied = sg.remedy("depth-transfer").plan(graph).apply(model)
    before = cases.state(model)
    with pytest.raises(RemedyRefused, match="Adagrad"):
        applied.attach(torch.optim.Adagrad(model.parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    applied.attach(optimizer)
    with pytest.raises(RemedyRefused, match="twice"):
        applied.attach(optimizer)
    assert cases.same(before, cases.state(model))
    _, _, unet = cases.unet()
    with pytest.raises(RemedyRefused, match="none of the 2 skips"):
        sg.remedy("depth-transfer").plan(unet)
