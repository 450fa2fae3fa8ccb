"""The loss of the best answer that is always the same."""

from __future__ import annotations

import math

import pytest
import torch

from skipgrad.core import SkipGraph
from skipgrad.models import fit
from skipgrad.race import find_skips
from skipgrad.race.chance import constant_loss


@pytest.mark.parametrize(
    ("model", "data", "low", "high"),
    [("skipgrad:resnet8", "digits", 2.2, 2.31), ("skipgrad:unet", "shapes", 0.2, 0.5)],
)
def test_it_is_the_entropy_of_the_classes(model: str, data: str, low: float, high: float) -> None:
    workload = fit(model, {}, data, batch_size=16)
    torch.manual_seed(0)
    graph = find_skips(workload.build(), workload)
    value = constant_loss(workload, graph)
    assert value is not None
    assert low < value < high
    assert value < math.log(graph.layers[-1].out_shape[1]) + 0.01  # never worse than a guess
    assert constant_loss(workload, SkipGraph(())) is None


def test_it_changes_no_random_state() -> None:
    workload = fit("skipgrad:resnet8", {}, "digits", batch_size=16)
    graph = find_skips(workload.build(), workload)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    constant_loss(workload, graph)
    assert torch.equal(before, torch.get_rng_state())
