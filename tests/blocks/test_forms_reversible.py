"""Reversible blocks: the gradients of the plain backward, with the memory of one activation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from blocks.saved import live_bytes, saved_bytes
from skipgrad.blocks.forms import Reversible, ReversibleSequence


def blocks(depth: int, make=lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))) -> ReversibleSequence:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return ReversibleSequence([Reversible(make(), make()) for _ in range(depth)])


def plainly(net: ReversibleSequence, x: Tensor) -> Tensor:
    """The same with autograd's own backward, written out here."""
    a, b = x.chunk(2, 1)
    for block in net.blocks:
        a = a + block.f(b)  # type: ignore[operator]
        b = b + block.g(a)  # type: ignore[operator]
    return torch.cat([a, b], 1)


def gradients(net: nn.Module, out: Tensor, x: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(out.pow(2).sum(), [x, *net.parameters()]))


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_gradients_are_those_of_the_plain_backward(dtype: torch.dtype, digits: float) -> None:
    net, x = blocks(20).to(dtype), torch.randn(5, 16, dtype=dtype, requires_grad=True)
    assert torch.equal(net(x), plainly(net, x))
    for a, b in zip(gradients(net, net(x), x), gradients(net, plainly(net, x), x), strict=True):
        assert (a - b).norm() <= digits * b.norm()


def test_random_numbers_are_drawn_again() -> None:
    net = blocks(4, lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))).double()
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(7)
    out = net(x)
    after = torch.get_rng_state()
    got = gradients(net, out, x)
    assert torch.equal(torch.get_rng_state(), after)
    torch.manual_seed(7)
    for a, b in zip(got, gradients(net, plainly(net, x), x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_batch_norms_count_a_batch_once() -> None:
    net = blocks(2, lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))).double()
    other = copy.deepcopy(net)
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    got, wanted = gradients(net, net(x), x), gradients(other, plainly(other, x), x)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm1d))


def test_under_autocast_the_branches_run_again_as_they_ran() -> None:
    net, x = blocks(3), torch.randn(5, 16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
        wanted = plainly(net, x)
    assert torch.equal(out, wanted)
    for a, b in zip(gradients(net, out, x), gradients(net, wanted, x), strict=True):
        assert (a - b).norm() <= 0.02 * b.norm()


def test_a_weight_used_in_two_blocks_and_one_that_is_frozen() -> None:
    one = nn.Linear(8, 8).double()
    net = ReversibleSequence([Reversible(one, nn.Linear(8, 8).double()), Reversible(nn.Tanh(), one)])
    net.blocks[0].g.bias.requires_grad_(False)  # type: ignore[union-attr]
    x = torch.randn(5, 16, dtype=torch.float64, requires_grad=True)
    learned = [p for p in net.parameters() if p.requires_grad]
    got = torch.autograd.grad(net(x).pow(2).sum(), [x, *learned])
    for a, b in zip(got, torch.autograd.grad(plainly(net, x).pow(2).sum(), [x, *learned]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [saved_bytes, live_bytes])
def test_what_is_kept_does_not_grow_with_depth(count) -> None:  # type: ignore[no-untyped-def]
    sizes = {}
    for depth in (10, 100):
        net, x = blocks(depth), torch.randn(64, 16)
        sizes[depth] = count(net, x)
    assert sizes[10] > 0
    assert sizes[100] <= 1.2 * sizes[10]


def test_without_gradient_it_compiles_as_one_graph() -> None:
    net, x = blocks(2), torch.randn(4, 16)
    with torch.no_grad():
        got = torch.compile(net, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(got, plainly(net, x))
