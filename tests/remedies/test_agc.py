"""agc: each unit's gradient within its bound, the last layer left alone."""

from __future__ import annotations

import math

import pytest
import torch

import skipgrad as sg
from remedies import cases
from skipgrad.core import BadInput
from skipgrad.remedies import Evidence
from skipgrad.remedies.agc import factors


def test_factors_by_hand():
    w = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    g = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    assert factors(w, g, 0.1).tolist() == [[pytest.approx(0.5)], [pytest.approx(1e-4)]]
    assert factors(w, 0.01 * g, 0.1)[0].item() == 1.0
    assert factors(w, torch.full((2, 2), math.nan), 0.1).tolist() == [[1.0], [1.0]]
    assert factors(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 10.0]), 1.0).tolist() == [pytest.approx(0.5)]


def test_a_convolutions_unit_is_an_output_channel_and_a_scalar_one_unit():
    w, g = torch.ones(2, 3, 2, 2), torch.ones(2, 3, 2, 2)
    g[1] = 0.01
    found = factors(w, g, 0.1)
    assert found.shape == (2, 1, 1, 1)
    assert found.flatten().tolist() == [pytest.approx(0.1), 1.0]
    assert factors(torch.tensor(2.0), torch.tensor(1.0), 0.1).item() == pytest.approx(0.2)


def test_it_clips_what_the_optimizer_gets_and_not_the_last_layer():
    model, x, graph = cases.residual()
    applied = sg.remedy("agc", clip_factor=1e-3).plan(graph).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    (1e3 * model(x).square().mean()).backward()
    head, first = model.head.weight.grad.clone(), model.blocks[0].f[0].weight.grad.clone()
    with applied.attach(optimizer):
        optimizer.step()
        assert torch.equal(model.head.weight.grad, head)
        clipped = model.blocks[0].f[0].weight
        assert bool((clipped.grad.norm(dim=1) <= 1.0001e-3 * clipped.norm(dim=1)).all())
        assert not torch.equal(clipped.grad, first)
        assert applied.verify(Evidence(loss=lambda: model(x).square().mean())).ok


def test_bad_factor():
    with pytest.raises(BadInput, match="clip_factor"):
        sg.remedy("agc", clip_factor=0)
