"""What stands in for weights and arguments is like them, takes their places and gives them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import ONE, One, X, brief
from skipgrad.core import ModelError
from skipgrad.finder import find_in_call
from skipgrad.instrument.patch import ForwardPatch

WAYS = pytest.mark.parametrize("by_value", [False, True], ids=["without values", "for real"])


def looked(x: Tensor, by_value: bool) -> bool:
    """True never; but asking sends the trace to real tensors."""
    return by_value and bool(x.sum() > 1e9)


@WAYS
def test_attributes_on_parameters_and_buffers(by_value: bool) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        w = self.f.weight
        w.calls += 1
        y = F.linear(x, w * w.gain * w.scale, self.f.bias) + self.table.shift
        return x if looked(x, by_value) else x + y

    model = One(forward)
    model.register_buffer("table", torch.zeros(8))
    weight: Any = model.f.weight
    weight.gain, weight.calls, weight.scale = 2.0, 0, torch.ones(8, 1)
    model.table.shift = nn.Parameter(torch.zeros(8))  # type: ignore[union-attr]
    assert brief(sg.find(model, X)) == ONE
    assert (weight.calls, weight.gain, model.f.weight is weight) == (0, 2.0, True)


@WAYS
def test_a_parameter_of_a_kind_of_its_own(by_value: bool) -> None:
    class Mine(nn.Parameter):
        def doubled(self) -> Tensor:
            return self * 2

    def forward(self: Any, x: Tensor) -> Tensor:
        assert isinstance(self.own, Mine)
        return x if looked(x, by_value) else x + x @ self.own.doubled()

    assert len(sg.find(One(forward, own=Mine(torch.eye(8))), X)) == 1


@pytest.mark.parametrize("name", ["parameters", "modules", "buffers", "children", "named_parameters", "weight"])
@pytest.mark.parametrize("what", ["list", "modules"])
@WAYS
def test_attributes_that_are_called_as_the_methods_are(name: str, what: str, by_value: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            made: Any = nn.ParameterList([nn.Parameter(torch.eye(8))]) if what == "list" else nn.ModuleList([nn.Tanh()])
            self._modules[name] = made
            self.f = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            held = self._modules[name]
            y = x @ held[0] if what == "list" else held[0](x)  # type: ignore[index]
            return x if looked(x, by_value) else x + self.f(y)

    assert [(s.name, s.span) for s in sg.find(Net(), X)] == [("root", 2 if what == "list" else 1)]


def leaf() -> Tensor:
    return X.clone().requires_grad_()


@pytest.mark.parametrize("given", [leaf, lambda: leaf() * 1, lambda: X.clone()], ids=["leaf", "made", "plain"])
@pytest.mark.parametrize("how", ["", "real"])
def test_an_input_that_is_changed_in_place(given: Callable[[], Tensor], how: str) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        x.mul_(0.5)
        x[:, 0] = 0
        x += self.f(x)
        return x

    x = given()
    before = x.detach().clone()
    graph = find_in_call(One(forward), (x,), {}, how=how)
    assert [(s.name, s.kind) for s in graph] == [("root", "add")]
    assert torch.equal(x.detach(), before)
    with torch.no_grad():
        assert len(sg.find(One(forward), x)) == 1


def test_a_failure_that_is_not_the_inputs_does_not_blame_them() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.f(x) + self.missing

    with pytest.raises(ModelError) as caught:
        sg.find(One(forward), X)
    assert "missing" in str(caught.value)
    assert "give inputs" not in str(caught.value)
    with pytest.raises(ModelError, match="give inputs of the shape"):
        sg.find(One(lambda self, x: self.f(x)), torch.zeros(2, 5))


class Two(nn.Module):
    """Takes two inputs."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_inputs_given_as_a_tuple_are_told_from_one_that_is_missing() -> None:
    x = torch.ones(2)
    with pytest.raises(ModelError, match="one by one"):
        sg.find(Two(), (x, x))
    with pytest.raises(ModelError, match="every input"):
        sg.find(Two(), x)


def state(model: nn.Module) -> Any:
    hooks = torch.nn.modules.module
    return (
        [(n, id(t), t._version) for n, t in [*model.named_parameters(), *model.named_buffers()]],
        [(id(m), sorted((k, id(v)) for k, v in vars(m).items())) for m in model.modules()],
        {k: len(v) for k, v in vars(hooks).items() if k.startswith("_global_") and isinstance(v, dict)},
        torch.autograd.Function.__dict__["apply"],
        torch.overrides._get_current_function_mode_stack(),
        torch.utils._python_dispatch._get_current_dispatch_mode_stack(),
        torch.is_grad_enabled(),
    )  # fmt: skip


class Stop(BaseException):
    """As ctrl-C."""


def faults() -> Iterator[Any]:
    for kind in (RuntimeError("no"), KeyboardInterrupt(), Stop()):
        for where in ("forward", "deep", "hook", "pre-hook", "looking"):
            yield pytest.param(kind, where, id=f"{type(kind).__name__} in {where}")


@pytest.mark.parametrize(("fault", "where"), list(faults()))
def test_an_exception_leaves_nothing_behind(fault: BaseException, where: str) -> None:
    def fails(*_: Any) -> None:
        raise fault

    def forward(self: Any, x: Tensor) -> Tensor:
        if where == "looking" and x.sum() > -1e9:
            raise fault
        y = x + self.deep(x)
        if where == "forward":
            raise fault
        return y

    class Deep(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.extra = x
            self.weight.data = self.weight.data * 2
            if where == "deep":
                raise fault
            return super().forward(x)

    model = One(forward, deep=Deep(8, 8))
    model.register_buffer("table", torch.zeros(8))
    model.deep.register_full_backward_hook(lambda *_: None)
    model.deep.register_forward_hook(lambda m, a, out: out * 1)
    if where == "hook":
        model.deep.register_forward_hook(lambda m, a, out: fails() or out)
    if where == "pre-hook":
        model.deep.register_forward_pre_hook(lambda m, a: fails() or a)
    patch = ForwardPatch(model, lambda forward, args, kwargs: forward(*args, **kwargs))
    before = state(model)
    if "hook" in where and isinstance(fault, Exception):
        assert len(sg.find(model, X)) == 1  # a hook that raises is left out
    else:
        with pytest.raises((ModelError, type(fault))):
            sg.find(model, X)
    assert state(model) == before
    patch.remove()
    assert brief(sg.find(One(lambda self, x: x + self.f(x)), X)) == ONE  # and no lock is held


def test_weights_that_are_made_of_other_tensors() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    model = One(lambda self, x: x + self.f(x))
    model.f.weight = nn.Parameter(TwoTensor(torch.eye(8), torch.eye(8)))
    assert brief(sg.find(model, X)) == ONE
    assert type(model.f.weight.data) is TwoTensor
