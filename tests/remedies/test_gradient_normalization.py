"""gradient-normalization's own rule; what it shares with gradient-scaling is tested there."""

from __future__ import annotations

import math

import pytest
import torch

from remedies import cases
from skipgrad.remedies import remedy
from skipgrad.remedies.gradient_normalization import Dividing

NORMALIZATION = remedy("gradient-normalization")


def test_the_constant_keeps_the_overall_norm_of_the_first_step():
    rule, sizes = Dividing(), {"a": 3.0, "b": 4.0}
    norms = {"a": 2.0, "b": 1.0}
    factors = rule(norms, sizes.__getitem__)
    assert math.hypot(*(sizes[s] * f for s, f in factors.items())) == pytest.approx(5.0)
    assert factors["b"] == pytest.approx(2 * factors["a"])
    # later the constant stays: gradients half as large are amplified twice as much
    later = rule({"a": 1.0, "b": 0.5}, sizes.__getitem__)
    assert later == pytest.approx({s: 2 * f for s, f in factors.items()})


def test_factors_are_clipped_and_a_zero_gradient_sets_no_constant():
    rule = Dividing()
    assert rule({"a": 1.0}, lambda _s: 0.0) == {}
    assert rule.constant is None
    assert rule({"a": 1.0}, lambda _s: 2.0) == {"a": 1.0}
    assert rule({"a": 1e-6}, lambda _s: 2.0) == {"a": 10.0}
    assert rule({"a": 1e6}, lambda _s: 2.0) == {"a": 0.1}


def test_overall_norm_of_branch_gradients_is_unchanged_in_the_first_step():
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with NORMALIZATION.plan(graph).apply(model, optimizer) as applied:
        model(x).square().mean().backward()
        grads = [p.grad for b in model.blocks for p in b.parameters()]
        before = torch.cat([g.flatten() for g in grads]).norm()
        optimizer.step()
        assert all(0.1 < f < 10 for f in applied.factors.values())
        assert len(set(applied.factors.values())) == 4
        torch.testing.assert_close(torch.cat([g.flatten() for g in grads]).norm(), before)
