"""A forward that draws what it runs: the answer is the same every time, and has all that can run."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from random import random as drawn_by_name
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import skipgrad as sg
from finder.test_robust import Block, One, Two, X
from skipgrad.finder import find_in_call
from skipgrad.finder.dice import HIGH, LOW, Draws, loaded

NOTE = "this model leaves out blocks at random"
RNG = np.random.default_rng(0)


class Dropped(Block):
    """A block that leaves itself out when its dice say so."""

    def __init__(self, says: Callable[[Any], bool]) -> None:
        super().__init__()
        self.says = says

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training and self.says(self) else super().forward(x)


DICE: dict[str, Callable[[Any], bool]] = {
    "torch.rand": lambda s: bool(torch.rand(1) < 0.2),
    "rare": lambda s: bool(torch.rand(()) < 0.01),
    "nearly always": lambda s: torch.rand(1).item() < 0.99,
    "uniform_": lambda s: torch.empty(1).uniform_(-1, 1).item() < -0.5,
    "bernoulli": lambda s: bool(torch.bernoulli(torch.tensor(0.3))),
    "bernoulli_": lambda s: bool(torch.empty(1).bernoulli_(0.3)),
    "randint": lambda s: int(torch.randint(10, (1,))) == 0,
    "randint from": lambda s: int(torch.randint(5, 10, (1,))) == 5,
    "randn": lambda s: float(torch.randn(1)) < -0.5,
    "randperm": lambda s: int(torch.randperm(4)[0]) == 0,
    "random.random": lambda s: random.random() < 0.2,
    "by name": lambda s: drawn_by_name() < 0.2,
    "random.uniform": lambda s: random.uniform(0, 10) < 2,
    "random.choice": lambda s: random.choice("abcd") == "a",
    "random.sample": lambda s: random.sample(range(50), 3)[0] < 10,
    "random.gauss": lambda s: random.gauss(0, 1) < -0.5,
    "np.random.rand": lambda s: np.random.rand() < 0.2,
    "np.random.uniform": lambda s: np.random.uniform(0, 10) < 2,
    "np.random.randint": lambda s: np.random.randint(0, 5) == 0,
    "np.random.choice": lambda s: np.random.choice(5, p=[0.1, 0.2, 0.3, 0.2, 0.2]) == 0,
    "np.random.binomial": lambda s: np.random.binomial(1, 0.2) == 1,
}


def net(says: Callable[[Any], bool], blocks: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), *[Dropped(says) for _ in range(blocks)])


def told(graph: sg.SkipGraph) -> Any:
    return replace(graph, found=None, notes=())


@pytest.mark.parametrize("dice", DICE)
def test_the_answer_is_that_of_all_blocks_every_time(dice: str) -> None:
    model = net(DICE[dice])
    want = sg.find(model.eval(), X)
    assert want.notes == ()
    model.train()
    for seed in range(4):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()  # type: ignore[union-attr]
        graph = sg.find(model, X)
        assert told(graph) == replace(told(want), training=graph.training)
        assert [n.split(":")[0] for n in graph.notes] == [NOTE]
        assert set(graph.found.matches) == {str(k) for k in range(1, 5)}  # type: ignore[attr-defined]
        after = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()  # type: ignore[union-attr]
        assert before[:2] == after[:2]
        assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("how", ["python", "numpy", "torch", "legacy"])
def test_generators_of_its_own(how: str) -> None:
    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block() for _ in range(4)])
            made: Any = {
                "python": lambda: random.Random(0),
                "numpy": lambda: np.random.default_rng(0),
                "torch": lambda: torch.Generator().manual_seed(0),
                "legacy": lambda: np.random.RandomState(0),
            }
            self.rng = made[how]()

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                drawn = torch.rand(1, generator=self.rng).item() if how == "torch" else self.rng.random()
                x = block(x) if drawn > 0.2 else x
            return x

    model = Owner()
    answers = []
    for _ in range(4):
        model(X)  # moves the generator on
        graph = sg.find(model, X)
        answers.append(told(graph))
        assert any(NOTE in n for n in graph.notes)
    assert [s.name for s in answers[0]] == [f"blocks.{k}" for k in range(4)]
    assert answers == answers[:1] * 4


def test_blocks_that_stand_in_the_models_own_forward_keep_their_names() -> None:
    class Inline(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                if not self.training or torch.rand(1) > 0.3:
                    x = x + layer(x)
            return x

    want = [("root", (("layers.0",),)), *((f"root#{k + 1}", ((f"layers.{k}",),)) for k in range(1, 4))]
    for seed in range(3):
        torch.manual_seed(seed)
        assert [(s.name, s.branches) for s in sg.find(Inline(), X)] == want


def test_one_of_several_paths_is_drawn() -> None:
    class Paths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.paths, self.end = Block(), nn.ModuleList([Block() for _ in range(5)]), Block()

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.paths[int(torch.randint(len(self.paths), ()))](self.stem(x)))

    names = ["stem", *(f"paths.{k}" for k in range(5)), "end"]
    for seed in range(3):
        torch.manual_seed(seed)
        graph = sg.find(Paths(), X)
        assert sorted(s.name for s in graph) == sorted(names)
        assert (graph.skips[0].name, graph.skips[-1].name) == ("stem", "end")
        assert sorted(layer.name for layer in graph.layers) == sorted(f"{n}.{p}" for n in names for p in "ab")
        assert graph.layers[0].name == "stem.a"
        for skip in graph:  # each at its layers, wherever the others were put in
            inside = [layer.name for layer in graph.layers[skip.start : skip.end]]
            assert inside == [f"{skip.name}.a", f"{skip.name}.b"]
        assert len(graph.found.matches) == 3  # type: ignore[attr-defined]
        assert "no forward ran all: paths." in graph.notes[-1]


def test_a_long_skip_around_blocks_that_are_left_out_is_one() -> None:
    inner = net(DICE["torch.rand"])
    graph = sg.find(One(lambda self, x: x + self.inner(x), inner=inner), X)
    assert [(s.name, s.long) for s in graph] == [(f"inner.{k}", False) for k in range(1, 5)] + [("root", True)]


def test_what_runs_only_in_training_is_in_it_too() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.training and random.random() < 0.05:
            y = self.extra(y)
        return y

    graph = sg.find(One(forward, body=Two(), extra=Block()), X)
    assert [s.name for s in graph] == ["body.blocks.0", "body.blocks.1", "extra"]
    assert any(NOTE in n for n in graph.notes)


def test_draws_that_steer_nothing_get_no_note() -> None:
    def masked(self: Any, x: Tensor) -> Tensor:
        mask = x.new_empty(len(x), 1).bernoulli_(0.9)
        noise = random.random() + np.random.rand() + torch.rand(1).item()
        return x + self.f(nn.functional.dropout(x, 0.5)) * mask * noise + torch.randn_like(x)

    for how in ("", "real"):
        graph = find_in_call(One(masked), (X,), {}, how=how)
        assert graph.notes == ()
    assert sg.find(One(masked), X).notes == ()
    assert not sg.find(nn.Sequential(Two(), nn.Dropout(0.5)), X).found.trace.drew  # type: ignore[attr-defined]


def test_a_forward_that_also_looks_at_values() -> None:
    class Looking(Dropped):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.sum() > -1e9 else x

    model = nn.Sequential(*[Looking(DICE["torch.rand"]) for _ in range(3)])
    graphs = [sg.find(model, X) for _ in range(3)]
    assert [[s.name for s in g] for g in graphs] == [["0", "1", "2"]] * 3
    assert {g.how for g in graphs} == {"real"}
    assert all(any(NOTE in n for n in g.notes) for g in graphs)


def test_some_draws_may_fail() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        if (drawn := random.random()) > 0.9:
            raise RuntimeError("too high")
        return x if drawn < 0.3 else x + self.f(x)

    random.seed(1)
    graph = sg.find(One(forward), X)
    assert [s.name for s in graph] == ["root"]


def test_draws_of_other_threads_are_their_own() -> None:
    model, stop, drawn = net(DICE["torch.rand"], 8), threading.Event(), []

    def draw() -> None:
        while not stop.is_set():
            drawn.append((random.random(), np.random.rand(), torch.rand(1).item(), drawn_by_name()))

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(3):
            with loaded(model, Draws(LOW)):
                assert random.random() == drawn_by_name() == np.random.rand() == LOW
                assert torch.rand(3).max() < 0.1
            sg.find(model, X)
    finally:
        stop.set()
        thread.join()
    assert not {LOW, HIGH} & {v for row in drawn for v in row}
    assert all(0.3 < float(np.mean(column)) < 0.7 for column in zip(*drawn, strict=True))
    assert "lambda" not in repr((random.random, drawn_by_name, np.random.rand))


def test_wav2vec2_has_all_its_layers_whatever_the_dice_say() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16),
        conv_stride=(5, 4), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, layerdrop=0.5, apply_spec_augment=False,
    )  # fmt: skip
    model, x = transformers.Wav2Vec2Model(config).train(), torch.zeros(1, 1600)
    for seed in range(2):
        torch.manual_seed(seed)
        graph = sg.find(model, x)
        assert len(graph) == 3 * 2 + 1  # attention and MLP a layer, and the positional convolution
        assert any(NOTE in n for n in graph.notes)
        assert graph.training
