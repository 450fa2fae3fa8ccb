"""The user's hooks do not run in a trace, unless the forward computes something else without them."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import skipgrad as sg
from finder.test_robust import ONE, TWO, One, Two, X, brief
from skipgrad.core import ModelError
from skipgrad.instrument import hooks

SEEN: list[Any] = []
NUMBER = 0


class Collector:
    """An object that is a hook, as probes are written."""

    def __init__(self) -> None:
        self.outs: list[Any] = []
        self.count: Counter[str] = Counter()

    def __call__(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.outs.append(out.numpy())
        self.count[type(module).__name__] += 1

    def bound(self, module: nn.Module, args: Any, out: Tensor) -> None:
        self.outs.append(out.detach())


def to_global(module: nn.Module, args: Any, out: Tensor) -> None:
    global NUMBER
    NUMBER += 1
    SEEN.append(float(out.sum()))


def test_hooks_that_collect_see_nothing_of_a_trace() -> None:
    model, seen, by_name, one = Two(), [], {}, Collector()
    count = 0

    def counts(module: nn.Module, args: Any, out: Tensor) -> None:
        nonlocal count
        count += 1
        by_name[module] = out

    handles = [
        model.register_forward_hook(lambda m, a, out: seen.append(out.device.type)),
        model.blocks[0].register_forward_hook(counts),
        model.blocks[0].register_forward_hook(one),
        model.blocks[1].register_forward_hook(one.bound),
        model.blocks[1].register_forward_hook(functools.partial(lambda tag, m, a, out: seen.append(tag), "tag")),
        model.blocks[1].register_forward_hook(to_global),
        model.blocks[1].register_forward_pre_hook(lambda m, a, k: seen.append(k), with_kwargs=True),
        model.blocks[0].register_forward_pre_hook(lambda m, a: by_name.setdefault("in", a)),
        model.blocks[0].register_full_backward_hook(lambda *_: seen.append("backward")),
        model.blocks[0].register_full_backward_pre_hook(lambda *_: seen.append("backward")),
    ]
    SEEN.clear()
    before = [list(m._forward_hooks.items()) for m in model.modules()]
    graph = sg.find(model, X)
    assert (brief(graph), graph.how, graph.notes) == (TWO, "meta", ())
    assert (seen, by_name, one.outs, one.count, count, NUMBER, SEEN) == ([], {}, [], Counter(), 0, 0, [])
    assert [list(m._forward_hooks.items()) for m in model.modules()] == before
    for handle in handles:
        handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def test_a_hook_on_the_model_that_makes_a_new_input() -> None:
    model = Two()
    model.register_forward_pre_hook(lambda m, a: (a[0] * 1.0,))
    assert brief(sg.find(model, X)) == TWO
    model = Two()
    model.register_forward_pre_hook(lambda m, a: (a[0]["x"],))  # the forward could not run without it
    assert brief(sg.find(model, {"x": X})) == TWO


def test_one_that_is_not_idempotent_is_applied_once() -> None:
    model = Two()

    def flattened(module: nn.Module, args: Any) -> Any:
        assert args[0].dim() == 3
        return (args[0].flatten(1),)

    model.register_forward_pre_hook(flattened)
    assert brief(sg.find(model, X.view(2, 2, 4))) == TWO


def test_a_hook_that_is_a_part_of_the_computation_is_seen() -> None:
    def without(self: Any, x: Tensor) -> Tensor:
        return self.f(x)

    def in_place(module: nn.Module, args: Any, out: Tensor) -> None:
        out.add_(args[0])

    for hook in (lambda m, a, out: out + a[0], in_place):
        model, seen = One(without), []
        model.f.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out))
        model.f.register_forward_hook(hook)
        assert [(s.name, s.branches) for s in sg.find(model, X)] == [("root", (("f",),))]
        assert seen == []


def test_what_a_doubtful_hook_writes_is_put_back() -> None:
    model, seen = Two(), []
    calls = [0]

    def doubtful(module: nn.Module, args: Any, out: Tensor) -> Any:
        seen.append(out)
        calls[0] += 1
        return out if len(seen) < 1000 else out * 2

    model.blocks[0].register_forward_hook(doubtful)
    assert brief(sg.find(model, X)) == TWO
    assert (seen, calls) == ([], [0])


def test_hooks_of_torch_that_make_the_weights_stay() -> None:
    model = Two()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model.blocks[0].a)
    nn.utils.spectral_norm(model.blocks[0].b)
    prune.random_unstructured(model.blocks[1].a, "weight", 0.5)
    assert brief(sg.find(model, X)) == TWO


def test_a_hook_of_ones_own_that_makes_the_weights_stays() -> None:
    class Normed:
        def __call__(self, module: Any, args: Any) -> None:
            setattr(module, "weight", module.weight_v / module.weight_v.norm())  # noqa: B010

    model = Two()
    for layer in (model.blocks[0].a, model.blocks[1].b):
        weight = layer.weight
        del layer._parameters["weight"]
        layer.weight_v = nn.Parameter(weight.detach())
        layer.register_forward_pre_hook(Normed())
    assert brief(sg.find(model, X)) == TWO


def test_a_model_that_reads_what_its_own_hooks_collect() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.kept = Two(), nn.Linear(8, 8), {}
            self.body.blocks[0].register_forward_hook(self.keep)
            self.body.blocks[1].register_forward_hook(lambda m, a, out: kept.append(out))
            kept = self.also = []

        def keep(self, module: nn.Module, args: Any, out: Tensor) -> None:
            self.kept["x"] = out

        def forward(self, x: Tensor) -> Tensor:
            self.kept.clear()
            self.also.clear()
            self.body(x)
            return self.kept["x"] + self.head(self.also[-1])

    model = Features()
    graph = sg.find(model, X)
    assert [s.name for s in graph] == ["body.blocks.0", "body.blocks.1", "root"]
    assert (model.kept, model.also) == ({}, [])


def test_hooks_that_a_forward_cannot_do_without_are_run_after_all() -> None:
    shared: dict[str, Tensor] = {}

    def keep(module: nn.Module, args: Any, out: Tensor) -> None:
        shared["x"] = out

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.f(x) + (lambda: shared["x"])().detach() * 0 + x

    model = One(forward)
    model.f.register_forward_hook(keep)
    assert [s.shortcut for s in sg.find(model, X)] == ["identity"]
    assert shared == {}


def test_global_hooks_run_in_other_threads_only() -> None:
    seen: list[str] = []
    go, done = threading.Event(), threading.Event()
    other = nn.Linear(8, 8)

    def elsewhere() -> None:
        go.wait(10)
        other(X)
        done.set()

    def forward(self: Any, x: Tensor) -> Tensor:
        go.set()
        assert done.wait(10)
        return x + self.f(x)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    torchs = nn.modules.module
    handle = torchs.register_module_forward_hook(lambda m, a, out: seen.append(out.device.type))
    try:
        assert brief(sg.find(One(forward), X)) == ONE
        assert seen == ["cpu"]
        One(lambda self, x: self.f(x))(X)
        assert seen == ["cpu"] * 3
    finally:
        handle.remove()
        thread.join()
    assert not torchs._global_forward_hooks


def test_a_backward_hook_changes_nothing() -> None:
    plain, hooked = Two(), Two()
    for module in hooked.modules():
        module.register_full_backward_hook(lambda *_: None)
    ops = [[(n.op, n.module, n.args) for n in sg.find(m, X).found.trace.nodes] for m in (plain, hooked)]
    assert ops[0] == ops[1]


def test_an_error_of_the_forward_is_told_whatever_hooks_there_are() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return F.relu(self.f(x)) @ torch.ones(3, 3)

    model = One(forward)
    model.f.register_forward_hook(lambda m, a, out: SEEN.append(out))
    model.f.register_forward_hook(lambda m, a, out: out * 2)
    SEEN.clear()
    with pytest.raises(ModelError, match="shapes"):
        sg.find(model, X)
    assert SEEN == []
    assert len(model.f._forward_hooks) == 2


def _maybe(module: nn.Module, args: Any, out: Tensor) -> Any:
    return out.mul(2) or None


def _early(module: nn.Module, args: Any, out: Tensor) -> Any:
    if out.dim() == 9:
        return out * 2
    return None


def _plainly(module: nn.Module, args: Any, out: Tensor) -> None:
    if out.dim() == 9:
        return
    SEEN.append(out)


@pytest.mark.parametrize(
    ("hook", "pre", "collects"),
    [
        (lambda m, a, out: SEEN.append(out.shape), False, True),
        (lambda m, a, out: print(out), False, True),
        (lambda m, a, out: SEEN.append(out) or out * 2, False, False),
        (lambda m, a, out: out * 2, False, False),
        (lambda m, a: (a[0] * 1.0,), True, False),
        (_maybe, False, False),
        (_early, False, False),
        (_plainly, False, True),
        (Collector(), False, True),
        (Collector().bound, False, True),
        (functools.partial(_plainly), False, True),
        (setattr, True, False),
    ],
)
def test_what_a_hooks_code_shows(hook: Any, pre: bool, collects: bool) -> None:
    assert hooks._only_collects(hook, pre=pre) == collects


def test_a_pair_of_hooks_of_which_one_keeps_what_the_other_adds() -> None:
    class Bridge:
        def __init__(self) -> None:
            self.x: Any = None

        def keep(self, module: nn.Module, args: Any) -> None:
            self.x = args[0]

        def add(self, module: nn.Module, args: Any, out: Tensor) -> Tensor:
            return out + self.x

    model, bridge, seen = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), Bridge(), []
    model[0].register_forward_pre_hook(bridge.keep)
    model[2].register_forward_hook(bridge.add)
    model[1].register_forward_hook(lambda m, a, out: seen.append(out))
    graph = sg.find(model, X)
    assert [(s.kind, s.branches, graph.how, graph.notes) for s in graph] == [("add", (("0", "2"),), "meta", ())]
    assert (bridge.x, seen) == (None, [])
