"""The same figures, and the same training, under everything people train with; what cannot be measured is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

import skipgrad as sg
from finder.nets import Nested, made
from repeatable import same_bits
from skipgrad.core import MeasureError

COLUMNS = ("skip_norm", "branch_norm", "total_norm", "out_norm", "x_rms", "branch_rms")


class Tower(nn.Module):
    """Blocks with three skips each (a fork has three uses), dropout and a batch norm; run as `how` says."""

    def __init__(self, how: str = "", blocks: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm, self.head = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.blocks = nn.ModuleList(Nested() for _ in range(blocks))
        self.drop, self.how = nn.Dropout(0.2), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.how == "reentrant") if self.how else block(x)
            x = self.drop(x)
        return self.head(x)


def batch(seed: int = 0) -> Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))


def rows_of(model: nn.Module, backward: Callable[[nn.Module, Any], None], *args: Any) -> Any:
    torch.manual_seed(7)
    with sg.watch(model, *args) as ledger:
        backward(model, ledger)
    return ledger


def once(model: nn.Module, _ledger: Any = None) -> None:
    model(batch()).pow(2).sum().backward()


def same(found: list[Any], expected: list[Any], digits: float = 1e-5, named: bool = True) -> None:
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        assert (a.step, a.micro) == (b.step, b.micro)
        assert not named or a.skip == b.skip
        for column in COLUMNS:
            assert getattr(a, column) == pytest.approx(getattr(b, column), rel=digits), (a.skip, column)
        assert a.cosine == pytest.approx(b.cosine, abs=digits)


@pytest.fixture
def plain() -> list[Any]:
    return rows_of(Tower(), once).rows()


# -- activation checkpointing ----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reentrant", "not reentrant"])
def test_checkpointing_of_blocks(how: str, plain: list[Any]) -> None:
    ledger = rows_of(Tower(how), once)
    assert ledger.notes == []
    assert ledger.rows() == plain
    assert [r.out_grad_norm for r in ledger.layers()] == [r.out_grad_norm for r in rows_of(Tower(), once).layers()]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_of_the_whole_model(reentrant: bool, early: bool, plain: list[Any]) -> None:
    def backward(model: nn.Module, _: Any) -> None:
        with set_checkpoint_early_stop(early):  # without, the second run goes on to its end
            checkpoint(model, batch().requires_grad_(), use_reentrant=reentrant).pow(2).sum().backward()

    ledger = rows_of(Tower(), backward)
    assert ledger.notes == []
    assert ledger.rows() == plain


# Torch's own word on a checkpoint in a reentrant checkpoint.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
def test_a_branch_inside_a_reentrant_checkpoint_and_its_shortcut_outside() -> None:
    class Across(nn.Module):
        def __init__(self, on: bool) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.a, self.b, self.head = nn.Linear(6, 6), Nested(), Nested(), nn.Linear(6, 6)
            self.on = on

        def run(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            return checkpoint(part, x, use_reentrant=True) if self.on else part(x)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(x + self.run(lambda y: self.run(self.b, self.a(y)), x))

    expected, ledger = rows_of(Across(False), once), rows_of(Across(True), once)
    assert [r.skip for r in expected.rows()][-1] == "root"
    same(ledger.rows(), expected.rows())  # a checkpoint in a checkpoint, too
    assert ledger.notes == []


def test_a_checkpointed_part_that_does_something_else_the_second_time() -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.f, self.calls = nn.Linear(6, 6), nn.Linear(6, 6), 0

        def part(self, x: Tensor) -> Tensor:
            self.calls += 1
            for _ in range(1 + (self.calls > 1)):
                x = x + torch.tanh(self.f(x))
            return x

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.part, self.stem(x), use_reentrant=True)

    ledger = rows_of(Fickle(), once)
    assert ledger.rows() == []
    assert any("other calls when it was run again" in n for n in ledger.notes)


def test_gradients_off_is_said() -> None:
    class Frozen(Tower):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.blocks[0](x)
            return self.blocks[1](x)

    ledger = rows_of(Frozen(), once)
    assert {r.skip for r in ledger.rows()} == {"blocks.1", "blocks.1#2", "blocks.1#3"}
    assert any("gradients off" in n for n in ledger.notes)


# -- forwards and backwards ------------------------------------------------------------------------


def test_two_forwards_and_one_backward_are_one_step() -> None:
    def both(model: nn.Module, _: Any) -> None:
        (model(batch(0)).pow(2).sum() + model(batch(1)).pow(2).sum()).backward()
        model(batch(2)).pow(2).sum().backward()

    ledger = rows_of(Tower().eval(), both)
    assert list(dict.fromkeys((r.step, r.micro) for r in ledger.rows())) == [(0, 0), (0, 1), (1, 0)]
    assert {r.step for r in ledger.layers()} == {0, 1}
    alone = rows_of(Tower().eval(), lambda m, _: m(batch(1)).pow(2).sum().backward()).rows()
    same([r for r in ledger.rows() if r.micro == 1], [replace(r, micro=1) for r in alone], 1e-6)


def test_two_backwards_through_one_forward_are_told_apart(plain: list[Any]) -> None:
    def twice(model: nn.Module, _: Any) -> None:
        loss = model(batch()).pow(2).sum()
        (3 * loss).backward(retain_graph=True)
        loss.backward()

    ledger = rows_of(Tower(), twice)
    assert ledger.notes == []
    assert {r.step for r in ledger.rows()} == {0, 1}
    same([replace(r, step=0) for r in ledger.rows() if r.step == 1], plain, 1e-6)
    for a, b in zip((r for r in ledger.rows() if r.step == 0), plain, strict=True):
        assert a.skip_norm == pytest.approx(3 * b.skip_norm, rel=1e-5)


def test_several_forwards_before_their_backwards(plain: list[Any]) -> None:
    model = Tower().eval()
    with sg.watch(model) as ledger:
        losses = [model(batch(k)).pow(2).sum() for k in range(3)]
        for loss in reversed(losses):
            loss.backward()
    expected = [
        rows_of(Tower().eval(), lambda m, _, k=k: m(batch(k)).pow(2).sum().backward()).rows() for k in (2, 1, 0)
    ]
    same(ledger.rows(), [replace(r, step=k) for k, rows in enumerate(expected) for r in rows], 1e-6)


def test_a_gradient_penalty_against_copies_of_the_fork() -> None:
    def net(m: Any, x: Tensor, keep: list[Tensor] | None) -> Tensor:
        x = m.stem(x)
        s, b = (x.clone(), x.clone()) if keep is not None else (x, x)
        if keep is not None:
            keep += [s, b]
        return m.head(s + m.b(torch.tanh(m.a(b))))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.a, self.b, self.head = (nn.Linear(6, 6).double() for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return net(self, x, None)

    def loss(out: Tensor, x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(out.pow(2).sum(), x, create_graph=True)
        return out.pow(2).sum() + slope.pow(2).sum()

    model, x, keep = Net(), batch().double().requires_grad_(), []
    s, b = torch.autograd.grad(loss(net(model, x, keep), x), keep)
    with sg.watch(model) as ledger:
        loss(model(x), x).backward()
    (row,) = ledger.rows()
    assert (row.skip_norm, row.branch_norm) == pytest.approx((s.norm().item(), b.norm().item()), rel=1e-10)


def test_frozen_parts_and_parameters_without_a_gradient(plain: list[Any]) -> None:
    model = Tower()
    frozen = (model.stem, model.norm, model.blocks[0].stem, model.head)
    for p in (p for part in frozen for p in part.parameters()):
        p.requires_grad_(False)
    ledger = rows_of(model, once)
    # The fork of these two is what the frozen layer returns.
    assert {r.skip for r in ledger.rows()} == {r.skip for r in plain} - {"blocks.0", "blocks.0#3"}
    assert all("no gradient reached its fork" in n for n in ledger.notes)
    optimizer = torch.optim.SGD(model.blocks.parameters(), lr=0.1)
    ledger = rows_of(model, lambda m, _: (once(m), optimizer.step()), None, optimizer)
    by_layer = {r.layer: r for r in ledger.layers()}
    assert by_layer["head"].weight_grad_norm is None
    assert by_layer["blocks.0.a"].weight_grad_norm is not None


def test_shared_weights() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.f, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            for _ in range(3):
                x = x + torch.tanh(self.f(x))
            return self.head(x)

    model = Shared()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.embed.weight.detach().clone()
    with sg.watch(model, optimizer=optimizer) as ledger:
        model(torch.arange(9).view(3, 3)).pow(2).sum().backward()
        optimizer.step()
    assert [r.skip for r in ledger.rows()] == ["root", "root#2", "root#3"]
    moved = (model.embed.weight - before).norm().item()
    for row in ledger.layers():
        if row.layer in ("embed", "head"):
            assert row.update_norm == pytest.approx(moved, rel=1e-5)


def test_a_detached_shortcut_is_zero_by_construction_and_said() -> None:
    class Net(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.stem, self.f, self.how = nn.Linear(6, 6), nn.Linear(6, 6), how

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            if self.how == "fork":
                x = x.detach()
            f = torch.tanh(self.f(x.detach() if self.how == "branch" else x))
            return (x.detach() if self.how == "shortcut" else x) + f

    for how, word in (("shortcut", "S is zero"), ("branch", "B is zero"), ("fork", "S and B are zero")):
        ledger = rows_of(Net(how), once)
        assert ledger.rows() == []
        assert [n for n in ledger.notes if n.startswith("root: not measured")] == [
            f"root: not measured: its {how} is detached: {word} by construction"
        ]


# -- precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "digits"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_autocast(dtype: torch.dtype, digits: float, plain: list[Any]) -> None:
    def backward(model: nn.Module, _: Any) -> None:
        with torch.autocast("cpu", dtype):
            loss = model(batch()).float().pow(2).sum()
        loss.backward()

    ledger = rows_of(Tower(), backward)
    same(ledger.rows(), plain, digits)
    assert len(ledger.notes) == (dtype == torch.float16)  # whether the loss is scaled is for the user to say


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_and_the_steps_it_skips(fused: bool) -> None:
    def trained(scaler: Any, spoil: tuple[int, ...] = ()) -> Any:
        model = Tower().eval()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
        with sg.watch(model, optimizer=optimizer) as ledger:
            if scaler is not None:
                ledger.scaled_by(scaler)
            for k in range(5):
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.float16, enabled=scaler is not None):
                    loss = model(batch(k)).float().pow(2).sum()
                if k in spoil:
                    loss = loss * float("inf")
                if scaler is None:
                    loss.backward()
                    optimizer.step()
                else:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
        return ledger

    plain = trained(None)
    scaled = trained(torch.amp.GradScaler("cpu", init_scale=256.0))
    same(scaled.rows(), plain.rows(), 0.02)
    for a, b in zip(scaled.layers(), plain.layers(), strict=True):
        assert a.weight_grad_norm == pytest.approx(b.weight_grad_norm, rel=0.02)
    skipped = trained(torch.amp.GradScaler("cpu", init_scale=256.0), (1, 4))
    assert sorted({r.step for r in skipped.rows()}) == [0, 1, 2, 3, 4]
    assert {r.step for r in skipped.rows() if not r.finite} == {1, 4}
    assert {r.step for r in skipped.layers() if r.update_norm == 0} == {1, 4}
    if not fused:  # a fused optimizer is called all the same
        assert skipped.notes == ["the GradScaler let 2 steps pass without moving a weight (1, 4)"]


# -- compilers and programs ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_compiled_code() -> Iterator[None]:
    yield
    torch._dynamo.reset()


# Torch's own word on compiling a part whose input is no leaf of the graph; it is there without a watch, too.
not_a_leaf = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@not_a_leaf
@pytest.mark.slow
def test_parts_that_are_compiled(plain: list[Any]) -> None:
    def wrapped(model: Tower) -> Tower:
        for k in range(2):
            model.blocks[k] = torch.compile(model.blocks[k], backend="aot_eager", fullgraph=True)
        return model

    def in_place(model: Tower) -> Tower:
        for block in model.blocks:
            block.compile(backend="aot_eager", fullgraph=True)
        return model

    for change in (wrapped, in_place):
        torch._dynamo.reset()
        ledger = rows_of(change(Tower()), once)
        assert ledger.notes == []
        same(ledger.rows(), plain, 1e-5, named=False)


@pytest.mark.slow
def test_compiled_with_sizes_that_change() -> None:
    model = Tower(blocks=1).eval()
    called = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    answers = []
    for run in (called, model):
        with sg.watch(run) as ledger:
            for n in (3, 5, 9):
                run(torch.ones(n, 6)).pow(2).sum().backward()
        assert ledger.notes == []
        answers.append(ledger.rows())
    same(*answers)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1.0, 1e20])
def test_compiled_vanishing_and_enormous_gradients_are_sized(factor: float) -> None:
    """In float32 the squares of these are zero, or infinite."""
    model = Tower().eval()
    rows = []
    for called in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        with sg.watch(called, budget=None) as ledger:
            (called(torch.ones(4, 6)).sum() * factor).backward()
        rows.append(ledger.rows())
    assert rows[0]
    for one, two in zip(*rows, strict=True):
        assert one.finite
        assert two.finite
        for name in ("skip_norm", "branch_norm", "total_norm", "out_norm"):
            assert getattr(two, name) == pytest.approx(getattr(one, name), rel=1e-5, abs=0.0), name
        assert two.cosine == pytest.approx(one.cosine, abs=1e-5)


@pytest.mark.slow
def test_compiled_to_reduce_overhead() -> None:
    # A net without a strided 1×1 convolution: on some processors torch's own compiled backward of one writes past its
    # memory and ends the process, without a ledger too (seen with torch 2.15 on an AVX2 machine).
    model, x = made("nested", torch.float32)
    rows = []
    for called in (model, torch.compile(model, fullgraph=True, mode="reduce-overhead")):
        with sg.watch(called) as ledger, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own, on a machine without a GPU
            called(x).pow(2).sum().backward()
        rows.append(ledger.rows())
    same(*rows)


@not_a_leaf
def test_a_function_compiled_around_the_model_is_left_alone_and_said() -> None:
    model = Tower().eval()

    def loss(x: Tensor) -> Tensor:
        return model(x).pow(2).sum()

    # The compiler takes the model's forward into the function's graph, where there is nothing to measure from.
    with sg.watch(model) as ledger:
        torch.compile(loss, backend="aot_eager", fullgraph=True)(batch()).backward()
    assert ledger.rows() == []
    assert "compile the model instead" in ledger.notes[0]


class Plain(nn.Module):
    """One block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.f = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + torch.tanh(self.f(x))


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        return torch.jit.script(Plain())


def test_torchscript_is_refused() -> None:
    with pytest.raises(MeasureError, match="TorchScript program"):
        sg.watch(scripted())


def test_torchscript_inside_a_model_is_one_op() -> None:
    ledger = rows_of(nn.Sequential(scripted(), Plain()), once)
    assert [r.skip for r in ledger.rows()] == ["1"]
    assert ledger.notes == ["TorchScript programs, inside which nothing is seen: 0, 0.stem, 0.f"]

    class Around(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.f = scripted()

    model = Around()
    ledger = rows_of(model, once)
    (row,) = ledger.rows()
    x = model.stem(batch())
    s, b = x * 1, x * 1
    grads = torch.autograd.grad((s + torch.tanh(model.f(b))).pow(2).sum(), (s, b))
    assert (row.skip_norm, row.branch_norm) == pytest.approx([g.norm().item() for g in grads], rel=1e-5)


def test_exported_and_symbolic_programs() -> None:
    module = Plain()
    expected = rows_of(module, once).rows()
    program = torch.export.export(module, (batch(),))
    with pytest.raises(MeasureError, match=r"program.module\(\)"):
        sg.watch(program)  # type: ignore[arg-type]
    for model in (program.module(), torch.fx.symbolic_trace(module)):
        ledger = rows_of(model, once)
        assert ledger.notes == []
        same(ledger.rows(), expected)


def test_an_op_that_a_rule_stands_in_for_is_refused_by_name() -> None:
    library = torch.library.Library("skipgrad_ledger", "DEF")
    library.define("fused(Tensor x, Tensor y) -> Tensor")
    library.impl("fused", lambda x, y: x + y, "CompositeImplicitAutograd")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.f, self.g = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = torch.ops.skipgrad_ledger.fused(x, torch.tanh(self.f(x)))
            return x + torch.tanh(self.g(x))

    try:
        model = Net()
        graph = sg.find(model, batch(), rules=sg.Rules(ops={"fused": lambda x, y: x + y}))
        assert len(graph) == 2
        ledger = rows_of(model, once, graph)
    finally:
        library._destroy()
    assert [r.skip for r in ledger.rows()] == ["root#2"]
    assert len(ledger.notes) == 1
    assert "root: not measured" in ledger.notes[0]
    assert "no call of its own" in ledger.notes[0]


# -- nothing changes, nothing stays ----------------------------------------------------------------


def bits(model: nn.Module) -> list[Tensor]:
    return [t.clone() for t in model.state_dict().values()]


def state(model: nn.Module) -> list[Any]:
    attributes = [sorted(m.__dict__) for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    return [attributes, hooks, list(model.state_dict())]


def train(model: nn.Module, called: nn.Module, mode: str, watched: bool, steps: int) -> list[Tensor]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, enabled=mode == "float16")  # too large at first
    cast = {"float16": torch.float16, "bfloat16": torch.bfloat16}.get(mode)
    ledger = sg.watch(called, optimizer=optimizer)
    if watched:
        ledger.__enter__()
    torch.manual_seed(3)
    for k in range(steps):
        optimizer.zero_grad()
        for part in range(2 if mode == "accumulated" else 1):
            x = batch(k + 100 * part).requires_grad_(mode == "penalty")
            with torch.autocast("cpu", cast, enabled=cast is not None):
                out = called(x).float()
            loss = out.pow(2).mean()
            if mode == "penalty":
                loss = loss + torch.autograd.grad(out.sum(), x, create_graph=True)[0].pow(2).mean()
            if mode == "retained":
                loss.backward(retain_graph=True)
            if mode == "two forwards":
                loss = loss + called(batch(k + 1)).pow(2).mean()
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    ledger.close()
    if watched:
        assert {r.step for r in ledger.layers()} <= set(range(steps))
        assert len(ledger.rows()) > 0
    return bits(model)


TRAININGS = ("reentrant", "not reentrant", "float16", "bfloat16", "accumulated", "penalty", "retained", "two forwards")


@not_a_leaf
@pytest.mark.parametrize("mode", [*TRAININGS, "parts"])
def test_training_is_bitwise_the_same(mode: str) -> None:
    steps, how = 10 if mode == "parts" else 50, mode if "reentrant" in mode else ""

    def run(watched: bool) -> list[Tensor]:
        torch._dynamo.reset()
        model = Tower(how)
        if mode == "parts":
            model.blocks[0].compile(backend="aot_eager")
        before = state(model)
        answer = train(model, model, mode, watched, steps)
        assert state(model) == before
        return answer

    same_bits(f"Tower, {mode}", run)


@pytest.mark.parametrize("how", ["", "reentrant", "not reentrant"])
def test_nothing_stays_after_an_exception(how: str) -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            raise ZeroDivisionError

    model = Tower(how)
    before, expected = state(model), rows_of(Tower(how), once).rows()

    def broken() -> None:
        with sg.watch(model):
            Bad.apply(model(batch())).sum().backward()

    with pytest.raises(ZeroDivisionError):
        broken()
    with pytest.raises(RuntimeError), sg.watch(model):
        model(torch.zeros(3, 99))
    assert state(model) == before
    model = Tower(how)
    assert rows_of(model, once).rows() == expected


def test_losing_a_loss_loses_the_ledgers_part_of_its_graph() -> None:
    import gc
    import weakref

    model = Tower()
    with sg.watch(model) as ledger:
        out = model(batch())
        kept = weakref.ref(ledger._steps.waiting[0])
        out.pow(2).sum().backward()
        ledger.rows()
        del out
        gc.collect()
    assert kept() is None


def test_an_encoder_of_torchs_own_is_measured_when_it_is_trained() -> None:
    model, x = made("encoder", torch.float32)
    torch.manual_seed(0)
    with sg.watch(model) as ledger:
        F.mse_loss(model(x), torch.zeros(2, 4, 8)).backward()
    assert len(ledger.rows()) == 2


@pytest.mark.slow
def test_arithmetic_on_positions_is_not_counted() -> None:
    """transformers makes more of it under a compiler than without."""

    class Placed(Tower):
        def forward(self, x: Tensor) -> Tensor:
            places = torch.arange(len(x))
            if torch.compiler.is_compiling():
                places = places + 1 + 1 - 2
            return super().forward(x + 0.1 * places.to(x.dtype)[:, None])

    expected = rows_of(Placed().eval(), once).rows()
    torch._dynamo.reset()
    called = torch.compile(Placed().eval(), backend="aot_eager", fullgraph=True)
    ledger = rows_of(called, once)
    assert ledger.notes == []
    same(ledger.rows(), expected)
