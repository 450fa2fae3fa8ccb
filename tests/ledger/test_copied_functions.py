"""Code copied out of torch asks whether a mode is on, and hands its call to the original then. A watch is a mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

import skipgrad as sg


def layer_norm(input: Tensor, shape: tuple[int, ...], *, times: float = 3.0) -> Tensor:
    """A layer norm that is not torch's, and begins as torch's does."""
    if has_torch_function((input,)):
        return handle_torch_function(nn.functional.layer_norm, (input,), input, shape)
    return times * torch.nn.functional.layer_norm(input, shape).tanh()


class Copied(nn.Module):
    """A residual block around it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        return x + self.out(layer_norm(x, (6,), times=2.0))


def doubled(input: Tensor) -> Tensor:
    """Of another width than what it takes itself for."""
    if has_torch_function((input,)):
        return handle_torch_function(nn.functional.silu, (input,), input)
    return torch.cat([input, input], -1)


class Doubled(nn.Module):
    """Raises where torch's function is run in the place of the copy."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(6, 6), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(doubled(self.layer(x)))


def trained(net: nn.Module, watched: bool) -> tuple[list[Tensor], sg.Ledger | None]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.manual_seed(1)
    batches = [torch.randn(4, 6) for _ in range(4)]
    ledger = sg.watch(net, optimizer=optimizer, budget=None) if watched else None
    if ledger is not None:
        ledger.__enter__()
    for x in batches:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    if ledger is not None:
        ledger.close()
    return [p.detach().clone() for p in net.parameters()], ledger


def made() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Copied(), Copied())


def test_a_watch_leaves_it_as_it_is() -> None:
    plain, _ = trained(made(), watched=False)
    watched, ledger = trained(made(), watched=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert ledger is not None
    assert not ledger.notes
    assert {r.skip for r in ledger.rows()} == {"0", "1"}
    assert len(ledger.rows()) == 8


def test_figures_are_those_of_the_copy() -> None:
    net = made().double()
    x = torch.randn(4, 6, dtype=torch.float64)
    first = net[0].layer(x).detach().requires_grad_()
    y = first + net[0].out(layer_norm(first, (6,), times=2.0))
    out = net[1](y)
    grad_y = torch.autograd.grad(out.square().sum(), y)[0]
    branch = torch.autograd.grad(net[0].out(layer_norm(first, (6,), times=2.0)), first, grad_y)[0]
    with sg.watch(net, budget=None) as ledger:
        net(x).square().sum().backward()
    row = next(r for r in ledger.rows() if r.skip == "0")
    assert row.branch_norm == pytest.approx(float(branch.norm()), rel=1e-10)
    assert row.skip_norm == pytest.approx(float(grad_y.norm()), rel=1e-10)


def test_find_reads_the_copy() -> None:
    assert [s.kind for s in sg.find(Doubled(), torch.randn(2, 6))] == ["add"]
