"""A sum is read alike wherever it stands, and a shortcut that is added twice carries twice as much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import skipgrad as sg

X = torch.zeros(2, 8)


class Sum(nn.Module):
    """A block with layers `f` and `g`, and a sum of one's choice."""

    def __init__(self, how: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.f, self.g, self.how = nn.Linear(8, 8), nn.Linear(8, 8), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, x)


def halves(s: Any, x: Tensor) -> Tensor:
    y = s.f(x)
    y += x
    y += x
    return y


SUMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], int, str, int]] = {  # sum, fan-in, shortcut, branches
    "(F + x) + x": (lambda s, x: (s.f(x) + x) + x, 3, "scaled", 1),
    "x + (x + F)": (lambda s, x: x + (x + s.f(x)), 3, "scaled", 1),
    "x + x + F": (lambda s, x: x + x + s.f(x), 3, "scaled", 1),
    "sum of a list": (lambda s, x: sum([x, s.f(x), x]), 3, "scaled", 1),  # type: ignore[arg-type, return-value]
    "a stack": (lambda s, x: torch.stack([x, s.f(x), x]).sum(0), 3, "scaled", 1),
    "in place": (halves, 3, "scaled", 1),
    "2x + F": (lambda s, x: 2 * x + s.f(x), 2, "scaled", 1),
    "x and a view": (lambda s, x: x.view(2, 8) + s.f(x) + x, 3, "scaled", 1),
    "x + pooled + F": (lambda s, x: x + nn.functional.avg_pool1d(x, 3, 1, 1) + s.f(x), 3, "pool", 1),
    "x + F": (lambda s, x: x + s.f(x), 2, "identity", 1),
    "x + F + G": (lambda s, x: x + s.f(x) + s.g(x), 3, "identity", 2),
    "(F + x) + G": (lambda s, x: (s.f(x) + x) + s.g(x), 3, "identity", 2),
    "(F + x) + (G + x)": (lambda s, x: (s.f(x) + x) + (s.g(x) + x), 4, "scaled", 2),
    "x - F + x": (lambda s, x: x - s.f(x) + x, 3, "scaled", 1),
}  # fmt: skip


def brief(graph: sg.SkipGraph) -> list[tuple[str, str, int, int, bool, int]]:
    return [(s.name, s.shortcut, s.fan_in, len(s.branches), s.long, s.span) for s in graph]


@pytest.mark.parametrize("how", SUMS)
def test_each_block_of_a_stack_is_read_alike(how: str) -> None:
    forward, fan_in, shortcut, branches = SUMS[how]
    graph = sg.find(nn.Sequential(*[Sum(forward) for _ in range(4)]), X)
    assert brief(graph) == [(str(k), shortcut, fan_in, branches, False, 1) for k in range(4)]


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(sorted(SUMS)), min_size=2, max_size=6), st.booleans(), st.booleans())
def test_whatever_stands_before_and_after(names: list[str], first: bool, last: bool) -> None:
    parts: list[nn.Module] = [Sum(SUMS[n][0]) for n in names]
    if first:
        parts.insert(0, nn.Linear(8, 8))
    if last:
        parts.append(nn.LayerNorm(8))
    with torch.device("meta"):
        graph = sg.find(nn.Sequential(*parts).to("meta"), torch.zeros(2, 8))
    told = [(SUMS[n][2], SUMS[n][1], SUMS[n][3]) for n in names]
    assert [(s.shortcut, s.fan_in, len(s.branches)) for s in graph] == told
    assert [s.name for s in graph] == [str(k + first) for k in range(len(names))]


def test_both_uses_of_x_are_the_shortcut() -> None:
    graph = sg.find(Sum(SUMS["(F + x) + x"][0]), X)
    match = graph.found.matches["root"]  # type: ignore[attr-defined]
    assert [graph.found.graph.nodes[e.op].op for e in match.shortcuts] == ["add", "add"]  # type: ignore[attr-defined]
    assert len(match.branches) == 1
