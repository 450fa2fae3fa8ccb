"""Nets that people write and that once were measured wrongly, altered or broken: each found by review, and mended."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg
from repeatable import same_bits


class Net(nn.Module):
    """Four linear layers and a forward of one's choice."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.a, self.b, self.head = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.BatchNorm1d(width)
        self.body, self.calls, self.kept = body, 0, []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.body(self, x)


def batch(n: int = 4, width: int = 6) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1))


def grads(model: nn.Module, x: Tensor, *, watched: bool, times: int = 1) -> tuple[list[Tensor | None], Any]:
    model = copy.deepcopy(model)
    torch.manual_seed(3)
    random.seed(3)
    ledger = sg.watch(model)
    if watched:
        ledger.__enter__()
    for _ in range(times):
        model(x).pow(2).sum().backward()
    ledger.close()
    return [p.grad for p in model.parameters()], ledger


def view_in_place(m: Any, x: Tensor) -> Tensor:
    h = m.stem(x)
    v = h[:, :3]
    v.add_(m.b(torch.tanh(m.a(h * 2)))[:, :3])
    return m.head(h)


def draws(m: Any, x: Tensor) -> Tensor:
    h = m.stem(x)
    p = 0.9 if torch.rand(1).item() < random.random() else 0.5
    return m.head(h * p + m.b(torch.tanh(m.a(h))))


def later_changed(m: Any, x: Tensor) -> Tensor:
    h = m.stem(x)
    if m.calls % 3 == 0:
        h = h + 1
    return m.head(h + m.b(torch.tanh(m.a(h))))


def reordered(m: Any, x: Tensor) -> Tensor:
    h = m.stem(x)
    if m.calls % 2:
        h = h + torch.tanh(m.a(h))
        h = m.b(h) + 1
    else:
        h = m.b(h) + 1
        h = h + torch.tanh(m.a(h))
    return m.head(h)


def norm_twice(m: Any, x: Tensor) -> Tensor:
    h = m.stem(x)
    h = h + m.a(torch.relu(m.norm(h)))
    return h * 2 if h.mean().item() > 1e9 else h


BODIES = {f.__name__: f for f in (view_in_place, draws, later_changed, reordered, norm_twice)}


@pytest.mark.parametrize("name", BODIES)
def test_training_is_untouched(name: str) -> None:
    model, x = Net(BODIES[name]), batch()

    def run(watched: bool) -> list[Tensor | None]:
        found, ledger = grads(model, x, watched=watched, times=6)
        assert not watched or ledger.rows() or ledger.notes
        return found

    same_bits(name, run)


def test_a_view_of_the_fork_that_is_changed_in_place_is_refused_by_name() -> None:
    _, ledger = grads(Net(view_in_place), batch(), watched=True)
    assert ledger.rows() == []
    assert any("view of its fork" in n for n in ledger.notes)


def test_a_trace_between_forward_and_backward_breaks_nothing() -> None:
    class Flagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Net(norm_twice)

        def forward(self, x: Tensor, flag: bool = False) -> Tensor:
            return self.inner(x)

    model, x = Flagged(), batch()
    with sg.watch(model) as ledger:
        (model(x) + model(x, flag=True)).sum().backward()
    assert len(ledger.rows()) == 2


def test_find_leaves_random_states_and_containers_alone() -> None:
    def keeps(m: Any, x: Tensor) -> Tensor:
        h = m.stem(x)
        m.kept.append(h)
        return h + torch.tanh(m.a(h)) * torch.rand(1).item() * random.random()

    model = Net(keeps)
    torch.manual_seed(7)
    random.seed(7)
    state, drawn = torch.get_rng_state(), random.getstate()
    assert len(sg.find(model, batch())) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == drawn
    assert model.kept == []
    with sg.watch(model):
        out = model(batch())
        (out.sum() + sum(k.sum() for k in model.kept)).backward()
    assert len(model.kept) == 1


def test_the_forward_still_tells_what_it_takes() -> None:
    model = Net(norm_twice)
    with sg.watch(model):
        assert list(inspect.signature(model.forward).parameters) == ["x"]


def measured(body: Callable[[Any, Tensor], Tensor], dtype: torch.dtype = torch.float64) -> Any:
    model = Net(body).to(dtype)
    with sg.watch(model) as ledger:
        model(batch().to(dtype)).pow(2).sum().backward()
    return ledger


def test_alpha_in_place_is_refused_rather_than_mismeasured() -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        h = torch.sigmoid(m.stem(x)) * 1.0
        h.add_(torch.tanh(m.a(h * 1.5)), alpha=0.5)
        return h

    ledger = measured(body)
    assert ledger.rows() == []
    assert "changed in place" in ledger.notes[0]


@pytest.mark.parametrize("how", ["addcmul", "addmm"])
def test_a_branch_inside_one_call_has_no_size_rather_than_zero(how: str) -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        h = m.stem(x)
        f = torch.tanh(m.a(h))
        return torch.addcmul(h, m.norm.weight, f) if how == "addcmul" else torch.addmm(h, f, m.b.weight)

    (row,) = measured(body).rows()
    assert row.branch_rms != row.branch_rms
    assert row.skip_norm == pytest.approx(row.out_norm)


class C2f(nn.Module):
    """YOLO's C2f: the halves of a split, and a chain of branches, in one concat."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.i, self.m0, self.m1 = nn.Conv2d(2, 8, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.o = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = list(self.i(x).chunk(2, 1))
        y.append(torch.tanh(self.m0(y[-1])))
        y.append(torch.tanh(self.m1(y[-1])))
        self.cat = torch.cat(y, 1)
        self.cat.retain_grad()
        return self.o(self.cat)


def test_each_half_of_a_split_counts_once() -> None:
    model, x = C2f().double(), torch.randn(2, 2, 6, 6, dtype=torch.float64)
    model(x).pow(2).sum().backward()
    truth = model.cat.grad[:, :12].norm().item()
    with sg.watch(model) as ledger:
        model(x).pow(2).sum().backward()
    row = ledger.rows()[-1]
    assert row.skip_norm == pytest.approx(truth, rel=1e-10)
    assert row.out_norm == pytest.approx(model.cat.grad.norm().item(), rel=1e-10)


def test_b_of_a_growing_list_is_what_came_through_the_newest() -> None:
    class Dense(nn.Module):
        def __init__(self, built: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.i, self.a, self.b = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 3, 1), nn.Conv2d(7, 3, 1)
            self.o, self.aux, self.built = nn.Conv2d(10, 2, 1), nn.Conv2d(7, 2, 1), built

        def forward(self, x: Tensor) -> Tensor:
            a = self.i(x)
            b = torch.tanh(self.a(a))
            m = torch.cat([a, b], 1)
            c = torch.tanh(self.b(m))
            return self.o(torch.cat([m, c] if self.built else [a, b, c], 1)) + self.aux(m)

    norms = []
    for built in (True, False):
        model = Dense(built).double()
        with sg.watch(model) as ledger:
            model(torch.ones(1, 2, 3, 3, dtype=torch.float64)).pow(2).sum().backward()
        rows = [r for r in ledger.rows() if r.skip == "root#2"]
        norms.append([r.branch_norm for r in rows])
    assert len(norms[0]) == 1
    assert norms[1] == pytest.approx(norms[0], rel=1e-10)


def test_a_source_without_a_gradient_is_said() -> None:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.o = nn.Conv2d(2, 3, 1), nn.Conv2d(5, 3, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            f = [torch.tanh(self.a(x)), x]
            f = [torch.tanh(self.b(torch.cat(f, 1))), *f]
            return self.o(torch.cat(f, 1))

    with sg.watch(Raw()) as ledger:
        ledger._user_model(torch.randn(1, 2, 3, 3)).sum().backward()
    for name in {s.name for s in ledger.graph.skips} - {r.skip for r in ledger.rows()}:
        assert any(n.startswith(f"{name}: not measured") for n in ledger.notes)


def test_a_global_residual_around_blocks_is_a_skip_of_its_own() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.tanh(self.f(x))

    class Global(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.blocks = nn.Linear(4, 4), nn.Sequential(Block(), Block(), Block())

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.blocks(x)

    graph = sg.find(Global(), torch.zeros(2, 4))
    assert [(s.name, s.long, s.fan_in) for s in graph] == [
        ("blocks.0", False, 2),
        ("blocks.1", False, 2),
        ("blocks.2", False, 2),
        ("root", True, 2),
    ]


@pytest.mark.parametrize(
    "body",
    [
        lambda m, x: torch.einsum("bi,bi->bi", h := m.stem(x), h) + m.b(torch.tanh(m.a(h))),
        lambda m, x: torch.where((h := m.stem(x)) > 0, h, 0.0) + m.b(torch.tanh(m.a(h))),
        lambda m, x: (h := m.stem(x)) * (h > 0) + m.b(torch.tanh(m.a(h))),
        lambda m, x: F.relu(h := m.stem(x)) + m.b(torch.tanh(m.a(h))),
    ],
)
def test_a_path_that_is_not_linear_is_no_shortcut(body: Callable[[Any, Tensor], Tensor]) -> None:
    assert len(sg.find(Net(body), batch())) == 0


def test_transformers_as_they_are_called() -> None:
    tf = pytest.importorskip("transformers")
    ids = torch.randint(0, 50, (2, 8))
    config = tf.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    gpt2 = tf.GPT2LMHeadModel(config)
    llama = tf.LlamaForCausalLM(
        tf.LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    for model in (gpt2, llama):
        for extra in ({"use_cache": False}, {"attention_mask": torch.ones_like(ids)}):

            def run(watched: bool, model: Any = model, extra: Any = extra) -> list[Tensor]:
                model.zero_grad()
                model.train()
                torch.manual_seed(0)
                with sg.watch(model) if watched else nullcontext() as ledger:
                    model(input_ids=ids, labels=ids, **extra).loss.backward()
                assert ledger is None or len(ledger.rows()) == 4, ledger.notes
                return [p.grad for p in model.parameters() if p.grad is not None]

            same_bits(type(model).__name__, run)
