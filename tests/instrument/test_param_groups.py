"""Which parameters weight decay is for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import skipgrad as sg


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))
        self.alpha = nn.Parameter(torch.zeros(()))
        self.mix = nn.Parameter(torch.eye(3))
        self.one = nn.Linear(4, 1)
        self.table = nn.Parameter(torch.ones(5, 4))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def no_weight_decay(self) -> set[str]:
        return {"mix"}


def names(model: nn.Module, group: dict) -> list[str]:
    held = {id(p) for p in group["params"]}
    return [name for name, p in model.named_parameters() if id(p) in held]


def test_scales_norms_biases_and_mixing_weights_are_not_decayed() -> None:
    model = Scaled()
    decayed, spared = sg.param_groups(model, weight_decay=0.1, lr=0.5)
    assert names(model, decayed) == ["table", "conv.weight", "one.weight"]
    assert set(names(model, spared)) == {
        "norm.weight", "norm.bias", "conv.bias", "gamma", "alpha", "mix", "one.bias",
    }  # fmt: skip
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert decayed["lr"] == spared["lr"] == 0.5


def test_an_optimizer_takes_them_and_decays_only_the_first() -> None:
    model = Scaled()
    optimizer = torch.optim.SGD(sg.param_groups(model, weight_decay=0.1), lr=1.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"table", "conv.weight", "one.weight"}


def test_a_parameter_used_twice_comes_once_and_an_empty_group_not_at_all() -> None:
    one = nn.Linear(3, 3, bias=False)
    (only,) = sg.param_groups(nn.Sequential(one, nn.ReLU(), one))
    assert len(only["params"]) == 1
    assert only["weight_decay"] == 0.01


@pytest.mark.parametrize("weight_decay", [-0.1, float("nan"), "0.1"])
def test_a_wrong_decay_is_explained(weight_decay: object) -> None:
    with pytest.raises(sg.SkipgradError, match="at least 0"):
        sg.param_groups(nn.Linear(2, 2), weight_decay=weight_decay)  # type: ignore[arg-type]


def test_a_model_without_parameters_is_explained() -> None:
    with pytest.raises(sg.SkipgradError, match="no parameter"):
        sg.param_groups(nn.ReLU())
