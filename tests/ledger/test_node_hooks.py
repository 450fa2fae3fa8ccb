"""Eager forwards are measured by hooks on autograd's nodes, compiled ones by slots: the same figures."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg
from skipgrad.ledger import ledger as ledgers

COLUMNS = ("skip_norm", "branch_norm", "total_norm", "out_norm", "x_rms", "branch_rms", "cosine")


class Block(nn.Module):
    """x + F(x), where `use` is how the branch takes x."""

    def __init__(self, use: Callable[[Tensor], Tensor] | None = None, width: int = 6, many: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(width, width)
        self.a = nn.ModuleList(nn.Linear(width, width) for _ in range(many))
        self.b = nn.ModuleList(nn.Linear(width, width) for _ in range(many))
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for a, b in zip(self.a, self.b, strict=True):
            x = x + b(torch.tanh(a(x if self.use is None else self.use(x))))
        return x


def batch(seed: int, *shape: int) -> Tensor:
    return torch.randn(*(shape or (4, 6)), generator=torch.Generator().manual_seed(seed))


def step(model: nn.Module, seed: int) -> None:
    model(batch(seed)).pow(2).sum().backward()


def brute(model: Block, x: Tensor) -> list[tuple[float, float, float]]:
    """(‖S‖, ‖B‖, ‖S+B‖) of each skip, by copies of the fork."""
    x, forks = model.stem(x), []
    for a, b in zip(model.a, model.b, strict=True):
        s, f = x * 1, x * 1
        forks += [s, f]
        x = s + b(torch.tanh(a(f if model.use is None else model.use(f))))
    grads = torch.autograd.grad(x.pow(2).sum(), forks)
    return [
        (s.norm().item(), b.norm().item(), (s + b).norm().item()) for s, b in zip(grads[::2], grads[1::2], strict=True)
    ]


def softsign(x: Tensor) -> Tensor:
    return F.softsign(x)  # one call, in which two nodes take x


USES: dict[str, Callable[[Tensor], Tensor] | None] = {
    "linear": None,
    "norm": lambda x: F.layer_norm(x, (6,)),
    "twice in one node": lambda x: torch.mul(x, x),
    "in two nodes of one call": softsign,
    "two results": lambda x: torch.chunk(x, 2, dim=1)[0].repeat(1, 2),
    "returned as it is": lambda x: F.dropout(x, 0.0).contiguous() * 1.5,
    "view": lambda x: x.view(2, 2, 6).flatten(0, 1),
    "in place on a copy": lambda x: x.clone().relu_(),
}


@pytest.mark.parametrize("name", USES)
def test_the_figures_of_later_forwards_are_exact(name: str) -> None:
    model = Block(USES[name]).double()
    with sg.watch(model) as ledger:
        for seed in range(3):
            model(batch(seed).double()).pow(2).sum().backward()
    assert ledger.notes == []
    for seed in range(3):
        rows = [r for r in ledger.rows() if r.step == seed]
        for row, (s, b, total) in zip(rows, brute(model, batch(seed).double()), strict=True):
            assert (row.skip_norm, row.branch_norm) == pytest.approx((s, b), rel=1e-10)
            assert row.total_norm == pytest.approx(total, rel=1e-10)
            assert row.residual < 1e-12


@pytest.mark.parametrize("name", USES)
def test_hooks_and_slots_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured() -> list[Any]:
        model = Block(USES[name])
        with sg.watch(model) as ledger:
            for seed in range(2):
                step(model, seed)
        return [(ledger.rows(), [r.out_grad_norm for r in ledger.layers()])]

    ((hooked, layers),) = measured()
    monkeypatch.setattr(ledgers, "is_compiled", lambda _: True)
    ((slotted, other_layers),) = measured()
    assert len(hooked) == len(slotted) == 4
    for a, b in zip(hooked, slotted, strict=True):
        assert [getattr(a, c) for c in COLUMNS] == pytest.approx([getattr(b, c) for c in COLUMNS], rel=1e-6)
    assert layers == pytest.approx(other_layers, rel=1e-6)


def test_nothing_is_put_into_the_graph() -> None:
    """Each node of a watched forward, from its result down, is one that the forward alone makes."""

    def nodes(out: Tensor) -> list[str]:
        found, seen = [out.grad_fn], set()
        for node in found:
            found += [below for below, _ in node.next_functions if below is not None and below not in seen]
            seen.update(below for below, _ in node.next_functions)
        return [n.name() for n in found]

    plain = nodes(Block()(batch(0)))
    model = Block()
    with sg.watch(model):
        for _ in range(2):
            assert nodes(model(batch(0))) == plain


def test_a_call_built_in_another_way_later_is_followed() -> None:
    def run(ledger_of: nn.Module, autocast: list[bool]) -> Any:
        with sg.watch(ledger_of) as ledger:
            for seed, on in enumerate(autocast):
                with torch.autocast("cpu", torch.bfloat16, enabled=on):
                    loss = ledger_of(batch(seed)).float().pow(2).sum()
                loss.backward()
        assert ledger.notes == []
        return ledger.rows()

    mixed, alone = run(Block(), [False, False, True]), run(Block(), [True, True, True])
    assert [r.step for r in mixed] == [0, 0, 1, 1, 2, 2]
    for a, b in zip(mixed[-2:], alone[-2:], strict=True):
        assert (a.skip_norm, a.branch_norm) == pytest.approx((b.skip_norm, b.branch_norm), rel=1e-5)


def test_a_gradient_asked_for_apart_is_no_backward_of_the_training() -> None:
    model = Block()
    with sg.watch(model) as ledger:
        for seed in range(2):
            x = batch(seed).requires_grad_()
            out = model(x)
            torch.autograd.grad(out.sum(), x, retain_graph=True)
            torch.autograd.grad(out.sum(), list(model.parameters()), retain_graph=True)
            out.pow(2).sum().backward()
    assert [(r.step, r.micro) for r in ledger.rows()] == [(0, 0), (0, 0), (1, 0), (1, 0)]
    for row, (s, b, _) in zip(ledger.rows()[2:], brute(model, batch(1)), strict=True):
        assert (row.skip_norm, row.branch_norm) == pytest.approx((s, b), rel=1e-5)


def penalised(model: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """A loss with a penalty on its own gradient, whose second differentiation goes to what the calls have saved."""
    x = batch(seed).double().requires_grad_()
    out = model(x)
    (slope,) = torch.autograd.grad(out.pow(2).sum(), x, create_graph=True)
    return out.pow(2).sum() + slope.pow(2).sum()


@pytest.mark.parametrize("name", USES)
def test_a_gradient_of_a_gradient_belongs_to_the_uses_of_x(name: str) -> None:
    model = Block(USES[name]).double()
    plain = Block(USES[name]).double()
    with sg.watch(model) as ledger:
        for seed in range(4):
            loss = penalised(model, seed) if seed % 2 else model(batch(seed).double()).pow(2).sum()
            loss.backward()
    for seed in range(4):
        (penalised(plain, seed) if seed % 2 else plain(batch(seed).double()).pow(2).sum()).backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]
    assert ledger.notes == []
    assert [r.step for r in ledger.rows()] == [0, 0, 1, 1, 2, 2, 3, 3]
    for seed in (1, 3):
        forks: list[Tensor] = []

        def forked(x: Tensor, forks: list[Tensor] = forks) -> Tensor:
            x = plain.stem(x)
            for a, b in zip(plain.a, plain.b, strict=True):
                s, f = x * 1, x * 1
                forks += [s, f]
                x = s + b(torch.tanh(a(f if plain.use is None else plain.use(f))))
            return x

        grads = torch.autograd.grad(penalised(forked, seed), forks)
        rows = [r for r in ledger.rows() if r.step == seed]
        for row, s, b in zip(rows, grads[::2], grads[1::2], strict=True):
            figures = (row.skip_norm, row.branch_norm, row.total_norm)
            assert figures == pytest.approx([g.norm().item() for g in (s, b, s + b)], rel=1e-10)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_function_in_an_eager_model() -> None:
    torch._dynamo.reset()
    inner = torch.compile(lambda x: torch.tanh(x) * 2, backend="aot_eager")

    class Mixed(Block):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.b[0](inner(self.a[0](x)))

    model = Mixed()
    with sg.watch(model) as ledger:
        for seed in range(3):
            step(model, seed)
    assert {r.step for r in ledger.rows()} == {0, 1, 2}
    for seed in (0, 1, 2):
        x = model.stem(batch(seed))
        s, f = x * 1, x * 1
        grads = torch.autograd.grad((s + model.b[0](torch.tanh(model.a[0](f)) * 2)).pow(2).sum(), (s, f))
        (row,) = (r for r in ledger.rows() if r.step == seed)
        assert (row.skip_norm, row.branch_norm) == pytest.approx([g.norm().item() for g in grads], rel=1e-5)


def test_no_figure_is_looked_at_inside_forward_and_backward() -> None:
    """On an accelerator that would stop it. A meta tensor raises when it is looked at."""
    with torch.device("meta"):
        model = Block(width=64)
        x = torch.randn(4, 64)
    graph = sg.find(model, x)
    ledger = sg.watch(model, graph)
    ledger.__enter__()
    for _ in range(3):
        model(x).sum().backward()
        (arrivals,) = ledger._steps._inbox
        (part,) = arrivals.parts.values()
        assert len(part.gathers) == len(part.outs) == 2
        assert all(isinstance(row, Tensor) for row in part.gathers.values())
        ledger._steps._inbox.clear()
    model(x).sum().backward()
    with pytest.raises(NotImplementedError, match="meta"):  # only when the figures are fetched
        ledger.rows()
    ledger._steps._inbox.clear()
    ledger.close()


class Kept:
    pass


def test_the_graph_is_freed() -> None:
    model = Block()
    kept: list[Any] = []

    def mark(_m: nn.Module, _args: Any, out: Tensor) -> None:
        assert out.grad_fn is not None
        out.grad_fn.metadata["kept"] = mine = Kept()  # goes when its node goes
        kept.append(weakref.ref(mine))

    hooks = [m.register_forward_hook(mark) for m in (model.stem, model.a[1], model.b[1])]
    gc.collect()
    gc.disable()  # nothing is to wait for a collection
    try:
        with sg.watch(model) as ledger:
            for seed in range(3):
                out = model(batch(seed))
                assert all(k() is not None for k in kept[-3:])  # those before are of the trace, which goes too
                out.pow(2).sum().backward()
                del out
                assert all(k() is None for k in kept)
                kept.clear()
                assert all(not p.waiting and not p.put_off for a in ledger._steps._inbox for p in a.parts.values())
    finally:
        gc.enable()
    for hook in hooks:
        hook.remove()


def test_a_branch_without_gradient_ends_with_the_backward() -> None:
    class Cut(Block):
        off = False

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for a, b in zip(self.a, self.b, strict=True):
                x = x + b(torch.tanh(a(x))) * (0.0 if self.off else 1.0)
            return x

    model = Cut()
    with sg.watch(model) as ledger:
        step(model, 0)
        for p in (*model.a.parameters(), *model.b.parameters()):
            p.requires_grad_(False)
        step(model, 1)
        out = model(batch(2))
        out.register_hook(_raises)
        with pytest.raises(ZeroDivisionError):
            out.sum().backward()
        step(model, 3)
    assert {r.step for r in ledger.rows()} >= {0, 1}
    last = ledger.rows()[-2:]
    for row, (s, b, _) in zip(last, brute(model, batch(3)), strict=True):
        assert (row.skip_norm, row.branch_norm) == pytest.approx((s, b), rel=1e-5)


def _raises(_: Tensor) -> None:
    raise ZeroDivisionError
