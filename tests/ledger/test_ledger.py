"""The watch: training inside it is the training outside it, and nothing stays behind."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import polars
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import skipgrad as sg
from finder.nets import NETS, Identity, Nested, Projection, made
from repeatable import same_bits
from skipgrad.core import BadInput, MeasureError


def batches(shape: tuple[int, ...], many: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(5)
    for _ in range(many):
        yield torch.randn(shape, generator=generator)


def trained(name: str, *, watched: bool, steps: int, wrap: Callable[[nn.Module], nn.Module] = lambda m: m) -> dict:
    model, x = made(name, torch.float32)
    model.train()
    called = wrap(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    torch.manual_seed(11)

    def loop() -> None:
        for batch in batches(tuple(x.shape), steps):
            optimizer.zero_grad()
            called(batch).pow(2).sum().backward()
            optimizer.step()

    if watched:
        with sg.watch(called, optimizer=optimizer, budget=None) as ledger:
            loop()
        assert len({r.step for r in ledger.layers()}) == steps
    else:
        loop()
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("name", NETS)
def test_weights_are_bitwise_those_of_an_unwatched_training(name: str) -> None:
    same_bits(name, lambda watched: trained(name, watched=watched, steps=50))


@pytest.mark.parametrize("name", ["projection", "nested", "dense"])
def test_the_same_compiled(name: str) -> None:
    def compiled(model: nn.Module) -> nn.Module:
        torch._dynamo.reset()
        return torch.compile(model, fullgraph=True, backend="aot_eager")

    same_bits(name, lambda watched: trained(name, watched=watched, steps=10, wrap=compiled))


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")  # on two, two plain trainings of MobileNet-V2 differ from each other
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2"])
def test_real_models_bitwise(name: str) -> None:
    make = getattr(pytest.importorskip("torchvision").models, name)
    x, y = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])

    def run(watched: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = make(num_classes=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        with sg.watch(model, optimizer=optimizer, every=1 if watched else 10**6) as ledger:
            if not watched:
                ledger.close()
            for _ in range(3):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
        if watched:
            assert len(ledger.rows()) == 3 * len(ledger.graph)
        return model.state_dict()

    same_bits(name, run)


def traces(model: nn.Module) -> list[object]:
    out: list[object] = []
    for module in model.modules():
        out.append(sorted(k for k in module.__dict__ if k not in ("training",)))
        out += [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)]
    out += [p._backward_hooks for p in model.parameters()]
    return [*out, list(model.state_dict())]


def test_nothing_is_left_behind_on_success_and_on_exceptions() -> None:
    model, x = made("identity", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = traces(model), len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)
    with sg.watch(model, optimizer=optimizer):
        model(x).sum().backward()
        optimizer.step()
        assert traces(model) != before[0]

    def broken() -> None:
        with sg.watch(model, optimizer=optimizer):
            model(x).sum().backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    with pytest.raises(RuntimeError), sg.watch(model, optimizer=optimizer):
        model(torch.zeros(3, 99))
    after = traces(model), len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)
    assert after == before


def test_watches_close_in_any_order() -> None:
    model, x = made("identity", torch.float32)
    before = traces(model)
    first, second = sg.watch(model).__enter__(), sg.watch(model).__enter__()
    model(x).sum().backward()
    first.close()
    model(x).sum().backward()
    second.close()
    assert traces(model) == before
    assert (len(first.rows()), len(second.rows())) == (1, 2)


@pytest.mark.parametrize("backend", [None, "aot_eager"])
@pytest.mark.parametrize("name", ["dense", "split", "projection", "post encoder"])
def test_a_watch_inside_a_watch_measures_the_same(name: str, backend: str | None) -> None:
    model, x = made(name, torch.float64)
    model.eval()
    torch._dynamo.reset()
    called = torch.compile(model, backend=backend, fullgraph=True) if backend else model
    with sg.watch(called) as outer, sg.watch(called) as inner:
        for _ in range(2):
            called(x).pow(2).sum().backward()
    assert outer.notes == inner.notes == []
    assert outer.rows() == inner.rows()
    assert len(outer.rows()) == 2 * len(outer.graph)


def test_a_copy_of_a_watched_model_is_not_watched_and_is_its_own() -> None:
    model, x = made("identity", torch.float32)
    with sg.watch(model) as ledger:
        twin = copy.deepcopy(model)
        with torch.no_grad():
            twin.head.weight.zero_()
            twin.head.bias.zero_()
        assert torch.equal(twin(x), torch.zeros(3, 6))
        twin(x).sum().backward()
    assert ledger.rows() == []
    assert "no forward of the watched model was seen" in ledger.notes[-1]


def test_steps_and_micro_steps() -> None:
    model, x = made("identity", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer=optimizer) as ledger:
        for _ in range(3):
            for _ in range(2):
                model(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert [(r.step, r.micro) for r in ledger.rows()] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert sorted({(r.step, r.layer) for r in ledger.layers()}) == sorted(
        (s, n) for s in range(3) for n in ("stem", "a", "b", "head")
    )


def test_without_an_optimizer_a_step_is_a_backward() -> None:
    model, x = made("identity", torch.float32)
    with sg.watch(model) as ledger:
        for _ in range(3):
            model(x).sum().backward()
    assert [r.step for r in ledger.rows()] == [0, 1, 2]
    assert {r.update_norm for r in ledger.layers()} == {None}


def test_every_nth_step_is_measured() -> None:
    model, x = made("identity", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer=optimizer, every=3) as ledger:
        for _ in range(7):
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
    assert [r.step for r in ledger.rows()] == [0, 3, 6]
    assert sorted({r.step for r in ledger.layers()}) == [0, 3, 6]


def test_layers_against_the_optimizers_own_step() -> None:
    model, x = made("identity", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.a.weight.detach().clone()
    with sg.watch(model, optimizer=optimizer) as ledger:
        out = model(x)
        out.pow(2).sum().backward()
        grad = model.a.weight.grad.clone()
        optimizer.step()
    row = next(r for r in ledger.layers() if r.layer == "a")
    assert (row.depth, row.weights, row.dtype) == (1, 36, "float32")
    assert row.weight_norm == pytest.approx(before.norm().item(), rel=1e-6)
    assert row.weight_grad_norm == pytest.approx(grad.norm().item(), rel=1e-6)
    assert row.update_norm == pytest.approx((model.a.weight - before).norm().item(), rel=1e-5)
    head = next(r for r in ledger.layers() if r.layer == "head")
    assert head.out_grad_norm == pytest.approx((2 * out).norm().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("dtype", "rate", "share"), [(torch.float32, 1e-12, 1.0), (torch.float32, 0.1, 0.0), (torch.bfloat16, 1e-5, 1.0)]
)
def test_stalled_weights_are_those_the_step_left_as_they_were(dtype: torch.dtype, rate: float, share: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8)).to(dtype)
    nn.init.uniform_(model[0].weight, 0.5, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    with sg.watch(model, optimizer=optimizer) as ledger:
        model(torch.rand(4, 8, dtype=dtype) + 0.5).sum().backward()
        optimizer.step()
    assert ledger.layers()[0].stalled == pytest.approx(share, abs=0.02)
    assert ledger.layers()[0].zero_grad == 0


def test_weights_without_a_gradient_are_told_apart_from_stalled_ones() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.rand(2, 4) + 1
    x[:, :2] = 0
    with sg.watch(model, optimizer=optimizer) as ledger:
        model(x).sum().backward()
        optimizer.step()
    assert (ledger.layers()[0].stalled, ledger.layers()[0].zero_grad) == (0.0, 0.5)


def test_a_closure_is_followed() -> None:
    model, x = made("identity", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).pow(2).sum()
        loss.backward()
        return loss

    with sg.watch(model, optimizer=optimizer) as ledger:
        optimizer.step(closure)
        optimizer.step(closure)
    assert [r.step for r in ledger.rows()] == [0, 1]
    # The first step's layers are not known when it begins: its forward is inside it.
    first, second = ledger.layers()[:4], ledger.layers()[4:]
    assert {r.update_norm for r in first} == {None}
    assert all(r.update_norm == pytest.approx(0.1 * r.weight_grad_norm, rel=1e-4) for r in second)


def test_a_backward_no_step_followed_is_kept() -> None:
    model, x = made("identity", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with sg.watch(model, optimizer=optimizer) as ledger:
        (model(x).sum() * math.inf).backward()
    assert not ledger.rows()[0].finite
    assert {r.layer for r in ledger.layers() if not r.finite} == {"stem", "a", "b", "head"}


def test_no_gradient_is_no_zero() -> None:
    model, x = made("identity", torch.float32)
    model.stem.requires_grad_(False)
    with sg.watch(model) as ledger:
        model(x).sum().backward()
    assert ledger.rows() == []
    assert "no gradient reached its fork" in ledger.notes[0]


def test_evaluation_inside_a_watch_is_left_alone() -> None:
    model, x = made("projection", torch.float32)
    with sg.watch(model) as ledger:
        model(x).sum().backward()
        with torch.no_grad():
            model(x)
        model.eval()
        model(x).sum().backward()
    assert [r.step for r in ledger.rows()] == [0, 1]
    assert ledger.notes == []


def test_changed_control_flow_is_noticed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.f, self.many = nn.Linear(4, 4), nn.Linear(4, 4), 2

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for _ in range(self.many):
                x = x + torch.tanh(self.f(x))
            return x

    model, x = Net(), torch.randn(2, 4)
    with sg.watch(model) as ledger:
        model(x).sum().backward()
        model.many = 3
        model(x).sum().backward()
        model(x).sum().backward()
    names = ["root", "root#2", "root#3"]
    assert [(r.step, r.skip) for r in ledger.rows()] == [(s, n) for s in range(3) for n in names[: 2 + (s > 0)]]
    assert ledger.graph is not None
    assert [s.name for s in ledger.graph] == names
    assert ledger.notes == []


def test_another_batch_size_needs_no_other_trace() -> None:
    model, x = made("projection", torch.float32)
    with sg.watch(model, sg.find(model, x)) as ledger:
        for n in (2, 5, 3):
            model(torch.randn(n, 2, 8, 8)).sum().backward()
        assert len(ledger._forwards._kinds) == 1
    assert [r.step for r in ledger.rows()] == [0, 1, 2]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant: bool) -> None:
    class Net(nn.Module):
        def __init__(self, on: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.inner, self.on = nn.Linear(6, 6), Nested(), on

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return checkpoint(self.inner, x, use_reentrant=reentrant) if self.on else self.inner(x)

    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    answers = []
    for on in (False, True):
        model = Net(on)
        with sg.watch(model) as ledger:
            model(x).pow(2).sum().backward()
        answers.append((ledger.rows(), ledger.notes))
    plain, under = answers
    assert under == plain


def test_the_graph_given_is_what_is_measured() -> None:
    model, x = made("nested", torch.float32)
    graph = sg.find(model, x)
    from dataclasses import replace

    some = replace(graph, skips=graph.skips[1:2])
    with sg.watch(model, some) as ledger:
        model(x).sum().backward()
    assert [r.skip for r in ledger.rows()] == [graph.skips[1].name]
    loaded = sg.SkipGraph.from_json(graph.to_json())
    with sg.watch(model, loaded) as ledger:
        model(x).sum().backward()
    assert len(ledger.rows()) == 3


def test_a_graph_of_another_model_is_refused() -> None:
    model, x = made("encoder", torch.float32)
    other, y = made("projection", torch.float32)
    with pytest.raises(MeasureError, match="other skips"):
        sg.watch(model, sg.find(other, y))
    del x


def test_wrong_arguments() -> None:
    with pytest.raises(BadInput, match="every=0"):
        sg.watch(Identity(), every=0)
    with pytest.raises(BadInput, match="a function"):
        sg.watch(F.relu)
    with pytest.raises(MeasureError, match="DataParallel"):
        sg.watch(nn.DataParallel(Identity()))


def test_frames_and_run_file(tmp_path: Path) -> None:
    model, x = made("projection", torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = tmp_path / "mine.sqlite"
    with sg.watch(model, optimizer=optimizer, run=path) as ledger:
        for _ in range(3):
            optimizer.zero_grad()
            loss = model(x).pow(2).sum()
            loss.backward()
            ledger.loss(loss.item())
            optimizer.step()
    frame = ledger.frame()
    assert isinstance(frame, polars.DataFrame)
    assert frame.shape == (3, 13)
    assert ledger.layer_frame().height == 3 * 4
    run = sg.read_run(path)
    assert run.skip_rows[0] == tuple(ledger.rows())
    assert run.layer_rows[0] == tuple(ledger.layers())
    assert [p.step for p in run.losses] == [0, 1, 2]
    assert run.meta["state"] == "done"
    assert {f.code for f in sg.diagnose(path)} >= {"SG001", "SG010"}
    assert [f.state for f in sg.diagnose(path)] == [f.state for f in sg.diagnose(ledger)]


def test_a_scaled_loss_is_scaled_back() -> None:
    class Scaler:
        def get_scale(self) -> float:
            return 1024.0

    model, x = made("projection", torch.float32)
    rows = []
    for factor in (1.0, 1024.0):
        twin = copy.deepcopy(model)
        with sg.watch(twin) as ledger:
            if factor > 1:
                ledger.scaled_by(Scaler())
            (twin(x).pow(2).sum() * factor).backward()
            rows.append(ledger.rows()[0])
    for column in ("skip_norm", "branch_norm", "total_norm", "out_norm", "gain", "cosine"):
        assert getattr(rows[0], column) == pytest.approx(getattr(rows[1], column), rel=1e-6)


def test_autocast() -> None:
    model, x = made("projection", torch.float32)
    with sg.watch(model) as ledger, torch.autocast("cpu", torch.bfloat16):
        model(x).float().pow(2).sum().backward()
    with sg.watch(model) as exact:
        model(x).pow(2).sum().backward()
    assert ledger.rows()[0].skip_norm == pytest.approx(exact.rows()[0].skip_norm, rel=0.05)


def test_a_projection_has_its_out_norm_at_the_merge() -> None:
    model = Projection()
    with sg.watch(model) as ledger:
        model(torch.randn(2, 2, 8, 8)).sum().backward()
    row = ledger.rows()[0]
    assert row.skip_norm != pytest.approx(row.out_norm, rel=1e-3)
    assert row.gain == pytest.approx(row.total_norm / row.out_norm)


def test_a_gradient_penalty_trains_as_without_a_watch() -> None:
    def run(watched: bool) -> list[Tensor]:
        model, x = made("nested", torch.float64)
        x.requires_grad_()
        ledger = sg.watch(model)
        if watched:
            ledger.__enter__()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        slope.pow(2).sum().backward()
        if watched:
            ledger.close()
        return [p.grad for p in model.parameters() if p.grad is not None]

    same_bits("nested", run)


def test_torch_func_is_left_alone_and_said() -> None:
    model, x = made("identity", torch.float32)
    weights = dict(model.named_parameters())

    def objective(w: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, w, (x,)).pow(2).sum()

    def run(watched: bool) -> dict[str, Tensor]:
        if not watched:
            return torch.func.grad(objective)(weights)
        with sg.watch(model) as ledger:
            found = torch.func.grad(objective)(weights)
        assert "torch.func" in ledger.notes[0]
        return found

    same_bits("identity", run)


class Fickle(nn.Module):
    """Says one thing to the tracer and does another: on meta tensors, or every second time."""

    def __init__(self, alternating: bool) -> None:
        super().__init__()
        self.stem, self.f, self.alternating, self.calls = nn.Linear(4, 4), nn.Linear(4, 4), alternating, 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        self.calls += 1
        few = self.calls % 2 if self.alternating else x.is_meta
        for _ in range(1 if few else 2):
            x = x + torch.tanh(self.f(x))
        return x


def test_a_forward_that_lied_to_a_tracer_is_measured_as_it_runs() -> None:
    model = Fickle(alternating=False)
    with sg.watch(model, sg.find(model, torch.randn(2, 4))) as ledger:
        for _ in range(3):
            model(torch.randn(2, 4)).sum().backward()
    assert [(r.step, r.skip) for r in ledger.rows()] == [(s, n) for s in range(3) for n in ("root", "root#2")]
    assert ledger.notes == []


def test_a_forward_that_changes_from_call_to_call_is_measured_each_time() -> None:
    model, plain = Fickle(alternating=True), Fickle(alternating=True)
    plain.load_state_dict(model.state_dict())
    x = torch.randn(2, 4)
    with sg.watch(model) as ledger:
        for _ in range(6):
            model(x).sum().backward()
            plain(x).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert [(r.step, r.skip) for r in ledger.rows()] == [
        (s, n) for s in range(6) for n in (["root", "root#2"] if s % 2 else ["root"])
    ]
    assert ledger.notes == []


def test_an_empty_batch_is_no_crash() -> None:
    model, _ = made("identity", torch.float32)
    with sg.watch(model) as ledger:
        model(torch.zeros(0, 6)).sum().backward()
    assert ledger.rows()[0].skip_norm == 0


def test_without_an_optimizer_too_each_backward_is_committed(tmp_path: Path) -> None:
    model, x = made("identity", torch.float32)
    with sg.watch(model, run=tmp_path / "run.sqlite"):
        model(x).sum().backward()
        model(x).sum().backward()  # a backward is read when the next forward begins
        assert {r.step for r in sg.read_run(tmp_path / "run.sqlite").skip_rows[0]} == {0}
