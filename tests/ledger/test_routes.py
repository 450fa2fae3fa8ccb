"""A forward that draws its own structure: each row is right, and carries the name of the block it is of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skipgrad as sg
from ledger.routes import Routes, Step, routes


def batch(seed: int) -> torch.Tensor:
    return torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(st.lists(routes(4), min_size=1, max_size=4), st.booleans())
def test_rows_are_those_of_the_blocks_that_ran(drawn: list[list[Step]], found_first: bool) -> None:
    model = Routes()
    model.route = drawn[0]
    graph = sg.find(model, batch(0)) if found_first else None
    if graph is not None and len(graph) != len(drawn[0]):
        graph = None  # a block of no weights of its own twice in a row is no skip of its own
    places: dict[str, set[tuple[str, ...]]] = {}
    with sg.watch(model, graph, budget=None) as ledger:
        for seed, route in enumerate(drawn):
            model.route = route
            model(batch(seed).requires_grad_()).pow(2).sum().backward()
    assert [n for n in ledger.notes if "forwards were followed" not in n] == []
    for seed, route in enumerate(drawn):
        model.route = route
        rows = [r for r in ledger.rows() if r.step == seed]
        assert len(rows) == len(route)
        assert len({r.skip for r in rows}) == len(rows)
        for row, step, (s, b, total) in zip(rows, route, model.truth(batch(seed).requires_grad_()), strict=True):
            assert (row.skip_norm, row.branch_norm, row.total_norm) == pytest.approx((s, b, total), rel=1e-10)
            places.setdefault(row.skip, set()).add(model.place(step))
    # One name is one block: whatever ran under it has weights in common that no other name has alone.
    for name, met in places.items():
        assert set.intersection(*map(set, met)), (name, met)
    account = ledger.account
    assert account.adds_up
    assert account.measured == account.forwards == len(drawn)
    assert sum(account.rows.values()) == sum(map(len, drawn))
