"""What find says of nets whose skips are known by construction."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import skipgrad as sg
from finder.nets import NETS, Dense, made
from skipgrad.core import BadInput, ModelError
from skipgrad.finder import find_built

# name: (kind, shortcut, long, span, fan_in, branches) per skip
EXPECTED = {
    "identity": [("add", "identity", False, 2, 2, (("a", "b"),))],
    "projection": [("add", "projection", False, 2, 2, (("a", "na", "b", "nb"),))],
    "concat": [("concat", "identity", False, 1, 2, (("a",),))],
    "dense": [("concat", "identity", False, 1, k + 2, ((f"layers.{k}",),)) for k in range(4)],
    "unet": [
        ("concat", "identity", True, 1, 2, (("mid",),)),
        ("concat", "identity", True, 3, 2, (("d1", "mid", "u1"),)),
    ],
    "parallel": [("add", "identity", False, 1, 3, (("norm", "a"), ("norm", "m")))],
    "highway": [("gate", "scaled", False, 1, 2, (("f",),))],
    "split": [("concat", "slice", False, 1, 2, (("f",),))],
    "nested": [
        ("add", "identity", False, 1, 2, (("a",),)),
        ("add", "identity", False, 1, 2, (("b",),)),
        ("add", "identity", True, 3, 2, (("a", "b", "c"),)),
    ],
    "in place": [("add", "identity", False, 1, 2, (("f",),))],
    "reused": [("add", "identity", False, 1, 2, (("block.f",),))] * 3,
    "encoder": [
        ("add", "identity", False, 1, 2, (("layers.0.norm1", "layers.0.self_attn"),)),
        ("add", "identity", False, 2, 2, (("layers.0.norm2", "layers.0.linear1", "layers.0.linear2"),)),
    ],
    "post encoder": [
        ("add", "identity", False, 1, 2, (("layers.0.self_attn",),)),
        ("add", "identity", False, 2, 2, (("layers.0.linear1", "layers.0.linear2"),)),
    ],
    "segnet": [("index", "pool", True, 1, 2, (("mid",),))],
}


@pytest.mark.parametrize("name", NETS)
def test_every_form_of_skip_is_found_in_full(name: str) -> None:
    model, x = made(name, torch.float32)
    graph = sg.find(model, x)
    said = [(s.kind, s.shortcut, s.long, s.span, s.fan_in, s.branches) for s in graph.skips]
    if name in ("highway", "segnet"):  # what the gate does to x, and whether pooling is long, is told elsewhere
        said = [(k, e[1], e[2], *rest) for (k, _, _, *rest), e in zip(said, EXPECTED[name], strict=True)]
    assert said == EXPECTED[name]
    assert graph.unknown == ()
    assert graph.how == "meta"


def test_names_forks_and_shapes() -> None:
    model, x = made("reused", torch.float32)
    graph = sg.find(model, x)
    assert [s.name for s in graph] == ["block", "block#2", "block#3"]
    assert [s.owner for s in graph] == ["block"] * 3
    assert [s.previous for s in graph] == [None, "block", "block#2"]
    assert graph["block#2"].fork_shape == graph["block#2"].merge_shape == (3, 6)
    assert [(s.start, s.end) for s in graph] == [(1, 2), (2, 3), (3, 4)]
    assert [layer.name for layer in graph.layers] == ["stem", "block.f", "block.f#2", "block.f#3"]


def test_a_dense_fork_is_the_group_of_operands() -> None:
    graph = sg.find(*made("dense", torch.float32))
    assert [s.fork_shape[1] for s in graph] == [4, 7, 10, 13]
    assert [s.merge_shape[1] for s in graph] == [7, 10, 13, 16]


def test_the_trunk_tells_post_norm_from_pre_norm() -> None:
    from finder.nets import Encoder

    x = torch.randn(2, 4, 5)
    pre, post = sg.find(Encoder(True), x), sg.find(Encoder(False), x)
    assert pre.skips[1].trunk == ()
    assert post.skips[1].trunk == ("layer_norm",)
    assert post.skips[1].previous == post.skips[0].name


class Spellings(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem, self.f = nn.Linear(4, 4), nn.Linear(4, 4)
        self.alpha = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        f = torch.tanh(self.f(x))
        return {
            "add": lambda: torch.add(x, f, alpha=2),
            "sum": lambda: sum([x, f]),
            "stack": lambda: torch.stack([x, f]).sum(0),
            "addcmul": lambda: torch.addcmul(x, f, self.alpha),
            "lerp": lambda: torch.lerp(x, f, 0.3),
            "sub": lambda: x - f,
            "scaled": lambda: x * 0.5 + f,
            "learned scale": lambda: x + self.alpha * f,
            "method": lambda: f.add_(x),
            "view": lambda: (x.view(-1) + f.reshape(-1)).view(x.shape),
            "baddbmm": lambda: torch.baddbmm(x[None], f[None], torch.eye(4)[None])[0],
        }[self.how]()


@pytest.mark.parametrize(
    "how",
    ["add", "sum", "stack", "addcmul", "lerp", "sub", "scaled", "learned scale", "method", "view", "baddbmm"],
)
def test_every_way_to_write_an_add(how: str) -> None:
    graph = sg.find(Spellings(how), torch.zeros(4, 4))
    assert [s.kind for s in graph] == ["add"]
    assert graph.skips[0].shortcut == ("scaled" if how in ("scaled", "lerp") else "identity")


def test_what_is_no_skip_is_listed_with_the_reason() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.position = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.zeros(1, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.position
            x = torch.relu(self.a(x)) + torch.relu(self.b(x))
            return x * torch.sigmoid(self.a(x))

    graph = sg.find(Net(), torch.zeros(2, 4))
    assert len(graph) == 0
    assert [o.kind for o in graph.others] == ["injection", "parallel", "gate"]


def test_unknown_ops_are_listed_with_their_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x)

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.i0(self.f(x))

    graph = sg.find(Net(), torch.zeros(2, 4))
    assert [(u.op, u.module) for u in graph.unknown] == [("i0", "inner")]
    assert len(graph) == 1


def test_nothing_is_changed() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before, keys = copy.deepcopy(model.state_dict()), {id(m): set(m.__dict__) for m in model.modules()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    sg.find(model, torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert {id(m): set(m.__dict__) for m in model.modules()} == keys
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_values_in_the_forward_are_met_with_a_real_run() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            for _ in range(int(x.abs().sum().item() * 0) + 2):
                x = x + torch.tanh(self.f(x))
            return x

    model = Net()
    before = copy.deepcopy(model.state_dict())
    graph = sg.find(model, torch.randn(3, 4))
    assert (len(graph), graph.how) == (2, "real")
    assert "meta" in graph.notes[0]
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


def test_meta_fake_compiled_and_data_parallel_models() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        assert len(sg.find(Dense(), torch.zeros(1, 2, 4, 4))) == 4
    with FakeTensorMode():
        assert len(sg.find(Dense(), torch.zeros(1, 2, 4, 4))) == 4
    assert len(sg.find(torch.compile(Dense()), torch.zeros(1, 2, 4, 4))) == 4


def test_json_round_trip() -> None:
    graph = sg.find(*made("unet", torch.float32))
    again = sg.SkipGraph.from_json(graph.to_json())
    assert again == graph
    assert again.found is None


def test_suggestions_pair_the_layers_of_a_plain_net() -> None:
    layers = [m for k in range(6) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())]
    graph = sg.find(nn.Sequential(*layers), torch.zeros(2, 4, 8, 8))
    assert [(s.first, s.last, s.shortcut) for s in graph.suggestions] == [
        ("0", "4", "identity"),
        ("6", "10", "identity"),
        ("12", "16", "identity"),
    ]


def test_errors_name_what_was_received() -> None:
    with pytest.raises(BadInput, match="a str"):
        sg.find("resnet50", torch.zeros(1))
    with pytest.raises(ModelError) as caught:
        sg.find(nn.Sequential(nn.Linear(3, 4)), torch.zeros(2, 5))
    assert "(2, 5) float32" in str(caught.value)
    assert "'0'" in str(caught.value)


def test_a_model_that_looks_at_values_is_traced_without_them_where_it_knows_how() -> None:
    built: list[str] = []

    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(8, 8)
            built.append(self.f.weight.device.type)

        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(x, FakeTensor) and x.sum() > 1e9:
                return x
            return x + self.f(x)

    graph = find_built(Careful, lambda device: ((torch.zeros(2, 8, device=device),), {}))
    assert (len(graph), graph.how, built) == (1, "fake", ["meta"])


def test_weights_beyond_memory_are_not_built_and_the_first_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skipgrad.finder._free", lambda: 400.0)
    built: list[str] = []

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(8, 8)
            built.append(self.f.weight.device.type)

        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else self.f(x)

    with pytest.raises(ModelError) as caught:
        find_built(Large, lambda device: ((torch.zeros(2, 8, device=device),), {}))
    assert built == ["meta"]
    assert "DataDependent" in str(caught.value)
    assert "on cpu: MemoryError: its weights would take 288 bytes, and 400 bytes are free" in str(caught.value)


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        (lambda x, f, g: torch.stack([x, f], 1).sum(2), []),
        (lambda x, f, g: torch.stack([x, f], 1).sum(1), [("add", "identity")]),
        (lambda x, f, g: torch.stack([x, f]).mean(0), [("add", "scaled")]),
        (lambda x, f, g: torch.sub(other=x, input=f), [("add", "scaled")]),
        (lambda x, f, g: torch.sub(other=f, input=x), [("add", "identity")]),
        (lambda x, f, g: torch.add(other=x, input=f, alpha=2), [("add", "scaled")]),
        (lambda x, f, g: torch.lerp(weight=g, end=f, input=x), [("gate", "identity")]),
        (lambda x, f, g: torch.lerp(weight=0.3, end=f, input=x), [("add", "scaled")]),
        (lambda x, f, g: torch.relu_(x.clone()) + f, []),
        (lambda x, f, g: x.clone().mul_(2) + f, [("add", "scaled")]),
        (lambda x, f, g: g * f + (-g + 1) * x, [("gate", "identity")]),
        (lambda x, f, g: g * f + torch.sub(1, g) * x, [("gate", "identity")]),
        (lambda x, f, g: g * f + (torch.ones_like(g) - g) * x, [("gate", "identity")]),
        (lambda x, f, g: g * f + (0.5 - g) * x, []),  # no gate, and g looks at x
        (lambda x, f, g: x.clone().masked_fill_(x < 0, 0) + f, []),
        (lambda x, f, g: torch.where(x < 0, 0, x) + f, []),
        (lambda x, f, g: x.index_add(0, torch.tensor([0]), f[:1]), [("add", "identity")]),
    ],
)
def test_merges_by_what_they_compute(merge: Callable[..., Tensor], expected: list[tuple[str, str]]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.f, self.g = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return merge(x, torch.tanh(self.f(x)), torch.sigmoid(self.g(x)))

    graph = sg.find(Net(), torch.zeros(4, 8))
    assert [(s.kind, s.shortcut) for s in graph] == expected


def test_an_empty_batch_makes_no_skip_of_an_injection() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1, keepdim=True) + self.f(x)

    assert [len(sg.find(Net(), torch.zeros(n, 5, 8))) for n in (2, 0)] == [0, 0]


def test_a_very_long_sum_takes_no_time_for_all_its_pairs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return sum((torch.tanh(self.f(x)) for _ in range(300)), x)

    graph = sg.find(Net(), torch.zeros(1, 8))
    assert [(s.shortcut, s.fan_in, len(s.branches)) for s in graph] == [("identity", 301, 300)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x: sg.find(m, x, rules={"a": 1}), "dict"),  # type: ignore[arg-type]
        (lambda m, x: sg.find(m, (t for t in [x])), "read only once"),
        (lambda m, x: sg.find(m, torch.nested.nested_tensor([x, x[:1]])), "nested"),
        (lambda m, x: sg.find(type(m), x), "build one"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_bad_input_is_told(call: Callable[..., Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        call(nn.Linear(8, 8), torch.zeros(2, 8))


def test_an_argument_called_model_is_the_models() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(8, 8)

        def forward(self, x: Tensor, model: int) -> Tensor:
            return x + self.f(x) * model

    assert len(sg.find(Net(), torch.zeros(2, 8), model=2)) == 1
