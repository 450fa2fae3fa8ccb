"""A trace belongs to its thread: `find` in several threads at once, and beside forwards of others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import ONE, One, Two, X, brief

THREADS = 4


class Square(torch.autograd.Function):
    """As a user writes one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return 2 * g * x


def with_function(self: Any, x: Tensor) -> Tensor:
    return x + self.f(Square.apply(x))


def by_value(self: Any, x: Tensor) -> Tensor:
    return x + self.f(x) if x.sum() > -1e9 else x


MODELS: list[Callable[[], nn.Module]] = [
    Two,
    lambda: One(with_function),
    lambda: One(by_value),
    lambda: nn.Sequential(*[Two() for _ in range(5)]),
    lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
]


def told(graph: sg.SkipGraph) -> Any:
    return brief(graph), graph.layers, graph.unknown, graph.how, graph.notes


def test_each_thread_gets_the_graph_that_it_would_get_alone() -> None:
    x = torch.zeros(1, 2, 8)
    alone = [told(sg.find(make(), x)) for make in MODELS]

    def look(k: int) -> Any:
        return k % len(MODELS), told(sg.find(MODELS[k % len(MODELS)](), x))

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(found == alone[k] for k, found in pool.map(look, range(40)))


def test_one_model_in_several_threads() -> None:
    model, x = nn.Sequential(*[Two() for _ in range(5)]), X
    before = {n: (id(p), p.detach().clone()) for n, p in model.named_parameters()}
    alone = told(sg.find(model, x))
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(found == alone for found in pool.map(lambda _: told(sg.find(model, x)), range(24)))
    assert all(id(p) == before[n][0] and torch.equal(p, before[n][1]) for n, p in model.named_parameters())
    assert not any("forward" in vars(m) for m in model.modules())


def test_forwards_of_other_models_beside_a_trace() -> None:
    stop, errors = threading.Event(), []

    def train() -> None:
        torch.manual_seed(0)
        model = One(with_function)
        want = model(X)
        while not stop.is_set():
            got = model(X)
            if not torch.equal(got, want) or got.grad_fn is None:
                errors.append(got)
            got.sum().backward()

    threads = [threading.Thread(target=train) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        graphs = [told(sg.find(make(), X[None])) for _ in range(6) for make in MODELS]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert graphs == graphs[: len(MODELS)] * 6
    assert all(said == told(sg.find(make(), X[None])) for said, make in zip(graphs, MODELS, strict=False))


def test_a_forward_that_looks_for_skips_itself() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        assert len(sg.find(Two(), X)) == 2
        return x + self.f(x)

    assert brief(sg.find(One(forward), X)) == ONE
