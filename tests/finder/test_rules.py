"""A user's own ops and rules, without editing the package."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import ONE, Hidden, One, X, brief
from skipgrad.core import BadInput

NAME = "skipgrad_tests"


@pytest.fixture(scope="module", autouse=True)
def ops() -> Iterator[None]:
    lib = torch.library.Library(NAME, "DEF")
    for name, args, function in (
        ("add_scaled", "Tensor x, Tensor y", lambda x, y: x + 2 * y),
        ("bend", "Tensor x", torch.relu),
        ("add_norm", "Tensor x, Tensor y, Tensor w", lambda x, y, w: F.layer_norm(x + y, x.shape[-1:], w)),
    ):
        lib.define(f"{name}({args}) -> Tensor")
        lib.impl(name, function, "CompositeExplicitAutograd")
    yield
    lib._destroy()


def call(name: str) -> Any:
    return getattr(getattr(torch.ops, NAME), name)


def test_an_op_of_ones_own_is_a_merge() -> None:
    model = One(lambda self, x: call("add_scaled")(x, self.f(x)))
    plain = sg.find(model, X)
    assert brief(plain) == []
    assert [u.op for u in plain.unknown] == ["add_scaled"]
    for name in ("add_scaled", f"{NAME}::add_scaled"):
        graph = sg.find(model, X, rules=sg.Rules(ops={name: "add"}))
        assert brief(graph) == ONE
        assert graph.unknown == ()


def test_an_op_that_is_like_another() -> None:
    model = One(lambda self, x: call("bend")(x) + self.f(x))
    assert brief(sg.find(model, X, rules=sg.Rules(ops={"bend": "relu"}))) == []
    assert brief(sg.find(model, X, rules=sg.Rules(ops={"bend": "dropout"}))) == [("root", "add", "scaled", (("f",),))]


def test_the_finders_own_rules_can_be_overruled() -> None:
    model = One(lambda self, x: torch.flip(x, (1,)) + self.f(x))
    assert len(sg.find(model, X)) == 1
    assert len(sg.find(model, X, rules=sg.Rules(ops={"flip": "nonlinear"}))) == 0


def test_a_function_stands_in_for_an_op_that_does_several_things() -> None:
    weight = nn.Parameter(torch.ones(8))
    model = One(lambda self, x: self.g(call("add_norm")(x, self.f(x), self.w)), w=weight, g=nn.Linear(8, 8))
    rules = sg.Rules(ops={"add_norm": lambda x, y, w: F.layer_norm(x + y, x.shape[-1:], w)})
    graph = sg.find(model, X, rules=rules)
    assert brief(graph) == ONE
    assert graph.unknown == ()
    assert [layer.name for layer in graph.layers] == ["f", "g"]


def test_an_autograd_function_by_its_class() -> None:
    model = One(lambda self, x: Hidden.apply(x) + self.f(x))
    graph = sg.find(model, X, rules=sg.Rules(ops={"Hidden": "scaled"}))
    assert brief(graph) == [("root", "add", "scaled", (("f",),))]
    assert graph.unknown == ()
    replaced = sg.find(model, X, rules=sg.Rules(ops={"Hidden": lambda x: x * 2}))
    assert [n.op for n in replaced.found.trace.nodes].count("mul") == 1
    assert (brief(replaced), replaced.how) == (brief(graph), "meta")  # NumPy is not asked


class Bent(nn.Module):
    """Linear in the mind of its author: the ReLU never cuts anything off."""

    def forward(self, x: Tensor, *, shift: Tensor) -> Tensor:
        return F.relu(x + 100 * shift) - 100 * shift


def test_a_module_counts_as_one_op() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.bent(x, shift=torch.ones(1)) + self.f(x)

    model = One(forward, bent=Bent())
    assert len(sg.find(model, X)) == 0
    for key in (Bent, "Bent"):
        assert brief(sg.find(model, X, rules=sg.Rules(modules={key: "identity"}))) == ONE
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_a_module_that_counts_as_one_op_brings_its_weights() -> None:
    model = One(lambda self, x: x + self.b(x), b=nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))
    graph = sg.find(model, X, rules=sg.Rules(modules={nn.Sequential: "matrix"}))
    assert [(s.kind, s.span) for s in graph] == [("add", 1)]
    assert [s.span for s in sg.find(model, X)] == [2]


def test_the_last_word() -> None:
    model = nn.Sequential(One(lambda self, x: x + self.f(x)), One(lambda self, x: x + self.f(self.f(x))))
    graph = sg.find(model, X, rules=sg.Rules(keep=lambda skip: skip.span > 1))
    assert [s.name for s in graph] == ["1"]
    assert any("0" in n and "keep" in n for n in graph.notes)


def test_a_watch_uses_the_same_rules() -> None:
    model = One(lambda self, x: call("add_scaled")(x, self.f(x)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own word on an op without an autograd formula
        graph = sg.find(model.eval(), X, rules=sg.Rules(ops={"add_scaled": "add"}))
        with sg.watch(model.train(), graph) as ledger:  # another mode: the watch traces again
            model(X)
    assert ledger.graph is graph
    assert not any("not in this forward" in n for n in ledger.notes)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"ops": {"x": "identiy"}}, "did you mean identity"),
        ({"ops": {"x": 3}}, "3"),
        ({"modules": {nn.ReLU: "no such"}}, "the module 'ReLU'"),
        ({"modules": {"ReLU": len}}, "the module 'ReLU'"),
    ],
)
def test_rules_that_do_not_exist(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        sg.Rules(**rules)


def test_names_are_found_however_they_are_written() -> None:
    model = One(lambda self, x: torch.flip(x, (1,)) + self.f(x))
    for name in ("flip", "torch.flip", "aten::flip", "flip_"):
        assert len(sg.find(model, X, rules=sg.Rules(ops={name: "nonlinear"}))) == 0
    graph = sg.find(model, X, rules=sg.Rules(ops={"flap": "nonlinear"}, modules={"NoSuch": "identity"}))
    assert [n for n in graph.notes if "met nothing" in n] == [
        "the rule for 'flap' met nothing in this forward",
        "the rule for 'NoSuch' met nothing in this forward",
    ]


def test_a_stand_in_may_call_the_op_itself() -> None:
    model = One(lambda self, x: x + F.relu(self.f(x)))
    graph = sg.find(model, X, rules=sg.Rules(ops={"relu": lambda x, inplace=False: F.relu(x) * 2}))
    assert graph.skips[0].tails == (("relu", "mul"),)


def test_rules_that_raise_are_told_as_such() -> None:
    model = One(lambda self, x: x + F.relu(self.f(x)))
    with pytest.raises(BadInput, match="the rule for 'relu'"):
        sg.find(model, X, rules=sg.Rules(ops={"relu": lambda: 1}))
    with pytest.raises(BadInput, match="keep= about the skip 'root'"):
        sg.find(model, X, rules=sg.Rules(keep=lambda skip: skip.span / 0 > 1))


def test_a_skip_left_out_is_no_ones_previous() -> None:
    model = nn.Sequential(*(One(lambda self, x: x + self.f(x)) for _ in range(3)))
    assert [s.previous for s in sg.find(model, X)] == [None, "0", "1"]
    graph = sg.find(model, X, rules=sg.Rules(keep=lambda skip: skip.name != "1"))
    assert [(s.name, s.previous) for s in graph] == [("0", None), ("2", None)]


@pytest.mark.parametrize(
    "given", [{"ops": ["add"]}, {"ops": None}, {"keep": "x"}, {"modules": {nn.ReLU(): "identity"}}]
)
def test_rules_of_another_form_are_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        sg.Rules(**given)
