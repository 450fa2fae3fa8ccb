"""Models whose class has a ``__call__`` of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import skipgrad as sg


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x).relu())


class Called(nn.Module):
    """Has no forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Block(), Block(), nn.Linear(6, 1))

    def __call__(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(-1)


class Counted(nn.Module):
    """Goes on to torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Block(), Block())
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return super().__call__(*args)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_one_without_a_forward_is_found_through_its_call() -> None:
    graph = sg.find(Called(), torch.randn(2, 6))
    assert [s.name for s in graph] == ["layers.0", "layers.1"]
    assert not graph.notes


def test_a_watch_says_that_it_sees_no_forward() -> None:
    net = Called()
    with sg.watch(net) as ledger:
        net(torch.randn(2, 6)).sum().backward()
    assert not ledger.rows()
    assert any("__call__ of its own" in note for note in ledger.notes)


def test_one_that_goes_through_its_forward_is_like_any_other() -> None:
    net = Counted()
    assert [s.name for s in sg.find(net, torch.randn(2, 6))] == ["layers.0", "layers.1"]
    with sg.watch(net, budget=None) as ledger:
        net(torch.randn(2, 6)).sum().backward()
    assert {r.skip for r in ledger.rows()} >= {"layers.1"}
    assert net.calls
