"""A layer is called by the weight it takes, whichever of its owner's weights run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import One, X
from skipgrad.core.skips import owner_of
from skipgrad.finder.names import Lies, region


def eye(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(*shape))


class Several(nn.Module):
    """Owns several weights, of which a call takes those it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2, self.qkv, self.conv = eye(8, 8), eye(8, 8), eye(24, 8), eye(8, 8, 3)
        self.experts, self.pos, self.gain = eye(3, 8, 8), eye(2, 8), eye(8)
        self.listed = nn.ParameterList([eye(8, 8), eye(8, 8)])
        self.named = nn.ParameterDict({"a": eye(8, 8), "b": eye(8, 8)})

    def forward(self, x: Tensor, order: list[str]) -> Tensor:
        x = x + self.pos
        for name in order:
            x = TAKEN[name](self, x)
        return x


TAKEN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "w1": lambda s, x: F.linear(x, s.w1 * s.gain),
    "w2": lambda s, x: x @ s.w2,
    "qkv[0:8]": lambda s, x: F.linear(x, s.qkv[:8]),
    "qkv[8:16]": lambda s, x: F.linear(x, s.qkv.narrow(0, 8, 8)),
    "qkv[16:24]": lambda s, x: F.linear(x, s.qkv.chunk(3)[2]),
    "experts[1]": lambda s, x: x @ s.experts[1].t(),
    "experts[2]": lambda s, x: F.linear(x, s.experts.unbind()[2]),
    "conv": lambda s, x: F.conv1d(x.unsqueeze(-1), s.conv, padding=1).squeeze(-1),
    "listed.1": lambda s, x: F.linear(x, s.listed[1]),
    "named.b": lambda s, x: F.linear(x, s.named["b"]),
}
WHOLE = {"qkv": lambda s, x: F.linear(x, s.qkv).chunk(3, -1)[0]}
TAKEN |= WHOLE


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.sampled_from(sorted(TAKEN)), min_size=1, max_size=8), st.sampled_from(["meta", "cpu"]))
def test_names_are_those_of_the_weights_whatever_runs(order: list[str], device: str) -> None:
    with torch.device(device):
        model = nn.Sequential()
        model.add_module("inner", Several())
        graph = sg.find(lambda x: model.inner(x, order), torch.zeros(2, 8))  # type: ignore[operator]
    want = [n if n not in order[:k] else f"{n}#{order[:k].count(n) + 1}" for k, n in enumerate(order)]
    assert [layer.name.removeprefix("model.inner.") for layer in graph.layers] == want


def test_one_weight_an_owner_is_called_by_its_owner() -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel, self.position, self.gamma = eye(8, 8), eye(2, 8), eye(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear((x + self.position) * self.gamma.t(), self.kernel)

    def forward(self: Any, x: Tensor) -> Tensor:
        return self.own(self.own(x)) + self.rnn(x)[0] + self.attn(x[None], x[None], x[None])[0][0]

    model = One(forward, own=Owner(), rnn=nn.LSTM(8, 8, 2, bidirectional=False), attn=nn.MultiheadAttention(8, 2))
    assert [layer.name for layer in sg.find(model, X).layers] == ["own", "own#2", "rnn", "attn"]
    assert [layer.name for layer in sg.find(One(lambda s, x: x @ s.w, w=eye(8, 8)), X).layers] == ["root"]


def test_parametrized_weights_are_called_by_what_they_make() -> None:
    class Half(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return w / 2

    several = Several()
    for name in ("w1", "w2"):
        nn.utils.parametrize.register_parametrization(several, name, Half())
    layers = sg.find(several, X, ["w2", "w1"]).layers
    assert [layer.name for layer in layers] == ["w2", "w1"]
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
    assert [layer.name for layer in sg.find(nn.Sequential(layer), X).layers] == ["0"]


def test_a_weight_that_is_cast_first() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        w = self.inner.qkv.double()
        return F.linear(x.double(), w[8:16]) + F.linear(x.double(), w[16:24])

    names = [layer.name for layer in sg.find(One(forward, inner=Several()), X).layers]
    assert names == ["inner.qkv[8:16]", "inner.qkv[16:24]"]


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (lambda w: w, ""),
        (lambda w: w.t(), ""),
        (lambda w: w[2:4], "[2:4]"),
        (lambda w: w[:, 3:5], "[:, 3:5]"),
        (lambda w: w[1:3, 3:5].t(), "[1:3, 3:5]"),
        (lambda w: w[4], "[4]"),
        (lambda w: w[4:5], "[4]"),
        (lambda w: w[:, 2], "[:, 2]"),
        (lambda w: w[::2], "[0:5:2]"),
        (lambda w: w[1::2, ::3], "[1:6:2, 0:7:3]"),
        (lambda w: w.view(3, 2, 8)[1], "[2:4]"),
    ],
)
def test_the_part_of_a_weight_as_one_indexes_it(view: Callable[[Tensor], Tensor], said: str) -> None:
    w = torch.zeros(6, 8)
    lies = [Lies(0, t.storage_offset(), tuple(t.shape), t.stride()) for t in (w, view(w))]
    assert region(*lies) == said


def test_the_owner_of_a_layer() -> None:
    assert [owner_of(n, {"m", "m.c"}) for n in ("m.w1", "m.w2[3]#2", "m.c#2", "top")] == ["m", "m", "m.c", "top"]
    assert owner_of("head", {""}) == "head"
