"""The dense block that keeps less for its backward: the same numbers, memory that grows with depth, not with its
square."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from blocks.saved import live_bytes, saved_bytes
from skipgrad.blocks.forms import Dense
from skipgrad.core import BadInput


def layers(many: int, norm=nn.BatchNorm2d, act=nn.ReLU, growth: int = 4) -> list[nn.Module]:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    made: list[nn.Module] = []
    for k in range(many):
        c = 8 + growth * k
        head = [norm(c), act()] if norm else [act()]
        rest = [nn.Conv2d(c, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, growth, 3, 1, 1)]
        made.append(nn.Sequential(*head, *rest))
    return made


def gradients(net: nn.Module, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(net(x).pow(2).sum(), [x, *net.parameters()]))


def group(c: int) -> nn.Module:
    return nn.GroupNorm(2, c)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, group, None])
@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh])
def test_the_numbers_are_those_of_the_plain_block(norm, act) -> None:  # type: ignore[no-untyped-def]
    made = layers(4, norm, act)
    plain, lean = Dense(made).double(), Dense(copy.deepcopy(made), memory_efficient=True).double()
    x = torch.randn(3, 8, 6, 6, requires_grad=True, dtype=torch.float64)
    assert torch.equal(plain(x), lean(x))
    for a, b in zip(gradients(plain, x), gradients(lean, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(plain.state_dict().values(), lean.state_dict().values(), strict=True):
        assert torch.equal(a, b)  # running statistics are counted once


def test_a_graph_can_be_gone_through_twice_and_a_change_in_place_is_noticed() -> None:
    lean, x = Dense(layers(3), memory_efficient=True), torch.randn(3, 8, 6, 6, requires_grad=True)
    out = lean(x).pow(2).sum()
    first = torch.autograd.grad(out, x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(out, x)[0])
    y = x * 1.0
    out = lean(y).pow(2).sum()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="changed in place"):
        out.backward()


@pytest.mark.parametrize("count", [saved_bytes, live_bytes])
def test_what_is_kept_grows_with_the_depth(count) -> None:  # type: ignore[no-untyped-def]
    depths = (12, 24, 48)
    kept = {lean: [] for lean in (False, True)}
    for lean, sizes in kept.items():
        for depth in depths:
            x = torch.randn(2, 8, 16, 16)
            sizes.append(count(Dense(layers(depth), memory_efficient=lean), x))
    slopes = {lean: math.log(sizes[2] / sizes[0]) / math.log(4) for lean, sizes in kept.items()}
    assert slopes[True] <= 1.15
    assert slopes[False] > 1.4
    assert kept[True][2] < kept[False][2] / 3


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 4, 1),
        nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1)),
        nn.Sequential(nn.ReLU()),
    ],
)
def test_layers_of_another_form_are_refused(layer: nn.Module) -> None:
    with pytest.raises(BadInput, match="layer 0"):
        Dense([layer], memory_efficient=True)


def test_compiled_and_without_gradient_it_is_the_plain_block() -> None:
    made = layers(2, None)
    plain, lean = Dense(made).eval(), Dense(made, memory_efficient=True).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        assert torch.equal(plain(x), lean(x))
    compiled = torch.compile(lean, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x))
