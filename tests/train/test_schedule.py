import pytest
import torch
from torch import nn

from skipgrad.train.schedule import Rates, factor


def _optimizer(lr=0.5):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def test_warm_up_rises_linearly_to_the_base_rate_and_stays():
    optimizer = _optimizer()
    rates = Rates(optimizer, steps=10, warmup=0.4, schedule="constant")
    seen = []
    for step in range(10):
        rates.set(step)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert seen[4:] == [0.5] * 6


def test_cosine_falls_to_nearly_zero_and_never_to_zero():
    values = [factor(i, 100, 0.1, "cosine") for i in range(100)]
    assert values[10] == 1.0
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[-1] < 0.001


def test_a_rate_steered_by_someone_else_is_kept_in_proportion():
    optimizer = _optimizer()
    rates = Rates(optimizer, steps=10, warmup=0.4, schedule="constant")
    rates.set(0)
    optimizer.param_groups[0]["lr"] *= 3
    rates.set(1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.75)
    rates.set(2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1.125)
