"""What a forward writes is put back: in all ways of tracing, whatever it writes to."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import ONE, One, X, brief
from skipgrad.core import ModelError


class Thing:
    """An object of the user's."""

    def __init__(self) -> None:
        self.n, self.inside = 0, {"seen": []}


class Frozen(dict[str, int]):
    """A configuration that does not let itself be changed."""

    def clear(self) -> None:
        raise TypeError("frozen")

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("frozen")


class Writer(nn.Module):
    """Writes to everything it can reach; `by_value` sends it to a real run."""

    def __init__(self, by_value: bool) -> None:
        super().__init__()
        self.f, self.momentum = nn.Linear(8, 8), nn.Linear(8, 8)
        self.by_value = by_value
        self.register_buffer("seen", torch.zeros(()))
        self.plain = torch.zeros(3)
        self.list: list[Any] = [1]
        self.queue: deque[Any] = deque([2], maxlen=5)
        self.dict: dict[str, list[Any]] = {"k": [3]}
        self.ordered: OrderedDict[str, Any] = OrderedDict(a=1)
        self.default, self.count, self.set = defaultdict(list), Counter(a=1), {4}
        self.frozen = Frozen(a=1)
        self.nan = torch.tensor([float("nan"), 1.0])
        self.thing = Thing()
        self.drawn, self.generator = random.Random(0), torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        if self.by_value and x.sum() > 1e9:
            return x
        with torch.no_grad():
            for mine, theirs in zip(self.momentum.parameters(), self.f.parameters(), strict=True):
                mine.data = mine.data * 0.9 + theirs.data * 0.1
            self.momentum.weight.mul_(0.5)
            self.seen.add_(1)  # type: ignore[operator]
            self.plain.add_(1)
        self.list.append(x)
        self.queue.append(x)
        self.dict["k"].append(x)
        self.dict["new"] = [x]
        self.default["x"].append(x)
        self.count["a"] += 1
        self.set.add(5)
        self.ordered["b"] = x
        self.ordered.move_to_end("a")
        self.thing.n += 1
        self.thing.inside["seen"].append(x)
        self.drawn.random()
        random.random()
        torch.rand(1)
        torch.rand(1, generator=self.generator)
        self.cache = x
        self.extra = nn.Linear(2, 2)
        self.f.register_forward_hook(lambda *_: None)
        return x + self.f(x)


def told(model: Writer) -> dict[str, Any]:
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "plain": model.plain.clone(),
        "ordered": (list(model.ordered.items()), list(model.frozen.items()), model.nan._version),
        "boxes": [list(model.list), list(model.queue), {k: list(v) for k, v in model.dict.items()}],
        "more": [dict(model.default), dict(model.count), set(model.set)],
        "thing": (model.thing.n, list(model.thing.inside["seen"])),
        "drawn": (model.drawn.getstate(), random.getstate()),
        "torch": (model.generator.get_state(), torch.get_rng_state()),
        "names": (sorted(vars(model)), sorted(model._modules), len(model.f._forward_hooks)),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("by_value", [False, True], ids=["without values", "for real"])
def test_whatever_a_forward_writes(by_value: bool) -> None:
    model = Writer(by_value)
    before = told(model)
    graph = sg.find(model, X)
    after = told(model)
    assert [s.name for s in graph if s.kind == "add"] == ["root"]
    assert {k: same(before[k], after[k]) for k in before} == dict.fromkeys(before, True)


def test_also_when_it_raises() -> None:
    class Raises(Writer):
        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            raise RuntimeError("no")

    model = Raises(by_value=False)
    before = told(model)
    with pytest.raises(ModelError, match="no"):
        sg.find(model, X)
    assert same(before, told(model))


def test_the_arguments_are_not_written_to() -> None:
    def forward(self: Any, x: Tensor, seen: list[Any], options: dict[str, Any]) -> Tensor:
        seen.append(x)
        options["n"] = 2
        if x.sum() > 1e9:
            return x
        x.add_(1)
        return x + self.f(x)

    x, seen, options = X.clone(), [], {"n": 1}
    sg.find(One(forward), x, seen, options)
    assert torch.equal(x, X)
    assert (seen, options) == ([], {"n": 1})


def test_the_other_mode_runs_no_code_of_the_users() -> None:
    class Merging(nn.Linear):
        """Folds an adapter into its weight when it is put into evaluation mode, as LoRA layers do."""

        def train(self, mode: bool = True) -> Any:
            if not mode:
                self.weight.data += 1
            return super().train(mode)

    model = Merging(8, 8)
    weight = model.weight.detach().clone()
    with pytest.raises(ModelError):
        sg.find(model, torch.zeros(2, 5))
    assert torch.equal(model.weight, weight)
    assert model.training


def test_in_inference_mode_too() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.f(x)
        y += x
        return torch.relu_(y)

    class Decorated(One):
        @torch.inference_mode()
        def forward(self, x: Tensor) -> Tensor:
            return forward(self, x)

    with torch.inference_mode():
        made_there = X.clone()
        assert brief(sg.find(One(forward), X)) == ONE
        assert brief(sg.find(One(forward), made_there)) == ONE
    assert brief(sg.find(Decorated(forward), X)) == ONE


def test_a_method_that_calls_the_module() -> None:
    class Step(One):
        def training_step(self, x: Tensor) -> Tensor:
            return self(x).sum()

    model = Step(lambda self, x: x + self.f(x))
    assert [s.name for s in sg.find(model.training_step, X)] == ["root"]
    assert "forward" not in vars(model)


MEAN = torch.ones(8)


def test_a_constant_nobody_registered_changes_no_names() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.f(x - MEAN)

    assert [s.name for s in sg.find(nn.Sequential(Block(), Block()), X)] == ["0", "1"]


def test_one_tensor_given_twice_is_one() -> None:
    assert brief(sg.find(One(lambda self, a, b: a + self.f(b)), X, X)) == ONE
    assert brief(sg.find(One(lambda self, a, b: a + self.f(b)), X, X.clone())) == []


@pytest.mark.parametrize("by_value", [False, True], ids=["without values", "for real"])
def test_hooks_stay_and_run(by_value: bool) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        assert isinstance(self.f.weight, nn.Parameter)
        return x if by_value and x.sum() > 1e9 else x + self.f(x)

    model = One(forward)
    calls: list[str] = []
    model.f.register_forward_hook(lambda *_: calls.append("forward"))
    model.f.register_full_backward_hook(lambda *_: calls.append("backward"))
    assert brief(sg.find(model, X)) == ONE
    calls.clear()
    model(X.clone().requires_grad_()).sum().backward()
    assert calls == ["forward", "backward"]


def test_a_tensor_attribute_that_is_given_other_data() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        self.table.data = torch.ones(7)
        return x + self.f(x)

    model = One(forward, table=torch.zeros(3))
    sg.find(model, X)
    assert torch.equal(model.table, torch.zeros(3))  # type: ignore[arg-type]
