"""gradient-scaling, and what both gradient edits share (steering.py)."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from repeatable import same_bits
from skipgrad.core import BadInput, RemedyRefused, SkipGraph
from skipgrad.ledger import watch
from skipgrad.remedies import Evidence, remedy
from skipgrad.remedies.gradient_scaling import Evening
from skipgrad.remedies.steering import Steering, modules_by_skip
from skipgrad.store import schedule

SCALING = remedy("gradient-scaling")
BOTH = ["gradient-scaling", "gradient-normalization"]


def made_up(name: str, monkeypatch: pytest.MonkeyPatch) -> cases.MadeUpLedger:
    ledger = cases.MadeUpLedger()
    monkeypatch.setattr(f"skipgrad.remedies.{name.replace('-', '_')}.watch", ledger.watch)
    return ledger


def backward(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(x).square().mean().backward()
    return {k: p.grad.clone() for k, p in model.named_parameters()}


def none(_skip: str) -> float:
    raise AssertionError("not needed")


def test_the_rule_is_the_formula():
    norms = {"a": 1.0, "b": 4.0, "c": 2.0}
    assert Evening()(norms, none) == pytest.approx({"a": 2.0, "b": 0.5, "c": 1.0})
    assert Evening(0.5)(norms, none) == pytest.approx({"a": math.sqrt(2), "b": math.sqrt(0.5), "c": 1.0})
    wide = Evening()({"a": 1e-6, "b": 1e6}, none)
    assert wide == {"a": 10.0, "b": 0.1}


def test_policies_that_go_by_parameters():
    norms, grads, weights = (
        {"a": 1.0, "b": 1.0, "c": 1.0},
        {"a": 1.0, "b": 4.0, "c": 0.0},
        {"a": 1.0, "b": 8.0, "c": 1.0},
    )
    by = {p: Evening(1.0, p)(norms, grads.__getitem__, weights.__getitem__) for p in ("gradient", "trust")}
    assert by["gradient"] == pytest.approx({"a": 2.0, "b": 0.5})  # c has no gradient to scale
    assert by["trust"] == pytest.approx({"a": math.sqrt(0.5), "b": math.sqrt(2)})
    assert Evening(1.0, "gradient")(norms, lambda _s: 0.0) == {}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(
    ("by", "figure"),
    [
        ("skip", lambda r: r.skip_norm),
        ("entering", lambda r: r.out_norm),
        ("ratio", lambda r: r.branch_norm / r.skip_norm),
    ],
)
def test_what_is_gone_by_is_the_rows_figure(name: str, by: str, figure: Callable):
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with sg.watch(model, graph) as ledger:
        backward(model, x)
    sizes = {r.skip: figure(r) for r in ledger.rows()}
    applied = sg.remedy(name, by=by).plan(graph).apply(model, optimizer)
    backward(model, x)
    optimizer.step()
    product = {s: f * sizes[s] for s, f in applied.factors.items()}
    assert len(product) == len(graph)
    assert max(product.values()) == pytest.approx(min(product.values()), rel=1e-5)  # evened out
    applied.undo()


@pytest.mark.parametrize("by", ["gradient", "trust"])
def test_they_even_out_what_they_go_by(by: str):
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    applied = sg.remedy("gradient-scaling", by=by).plan(graph).apply(model, optimizer)
    backward(model, x)
    optimizer.step()
    own = {s: math.sqrt(sum(float(p.grad.square().sum()) for p in ps)) for s, ps in applied.parameters.items()}
    if by == "trust":
        own = {
            s: g / math.sqrt(sum(float(p.detach().square().sum()) for p in applied.parameters[s]))
            for s, g in own.items()
        }
    assert max(own.values()) == pytest.approx(min(own.values()), rel=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_an_unknown_policy_is_told(name: str):
    with pytest.raises(BadInput, match="give one of skip, entering, ratio"):
        sg.remedy(name, by="luck")


def test_gradients_are_multiplied_by_the_running_ratio(monkeypatch: pytest.MonkeyPatch):
    model, x, graph = cases.residual(depth=2)
    a, b = (s.name for s in graph)
    ledger = made_up("gradient-scaling", monkeypatch)
    applied = SCALING.plan(graph).apply(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    applied.attach(optimizer)
    plain = backward(model, x)
    # two micro-batches: root of the mean square, 5 and 10
    rows = [cases.row(a, 1.0, 1.0), cases.row(a, 7.0, 1.0, micro=1), cases.row(b, 10.0, 1.0)]
    ledger.held += rows
    optimizer.step()
    assert applied.factors == pytest.approx({a: math.sqrt(2), b: math.sqrt(0.5)})
    for i, skip in enumerate((a, b)):
        for part in ("0.weight", "0.bias", "2.weight", "2.bias"):
            key = f"blocks.{i}.f.{part}"
            assert torch.equal(dict(model.named_parameters())[key].grad, plain[key] * applied.factors[skip])
    backward(model, x)
    ledger.held += [cases.row(a, 15.0, 1.0, step=1), cases.row(b, 10.0, 1.0, step=1)]
    optimizer.step()
    assert applied.factors[a] == pytest.approx(math.sqrt(10 / (0.9 * 5 + 0.1 * 15)))
    applied.undo()
    assert ledger.open == 0


@pytest.mark.parametrize("name", BOTH)
def test_without_a_measurement_gradients_stay_and_a_note_is_kept(name: str, monkeypatch: pytest.MonkeyPatch):
    model, x, graph = cases.residual(depth=2)
    a, b = (s.name for s in graph)
    ledger = made_up(name, monkeypatch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with remedy(name).plan(graph).apply(model, optimizer) as applied:
        plain = backward(model, x)
        optimizer.step()
        assert all(torch.equal(plain[k], p.grad) for k, p in model.named_parameters())
        assert applied.notes == ("1 × no skip had a usable measurement: gradients left as they were",)
        ledger.held += [cases.row(a, 1.0, 1.0), cases.row(b, math.nan, 1.0)]
        optimizer.step()
        assert set(applied.factors) == {a}
        assert b in applied.notes[1]
        ledger.held += [cases.row(a, 1.0, 1.0, finite=False), cases.row(b, 0.0, 1.0)]
        optimizer.step()
        assert applied.factors == {}
        assert applied.notes[0].startswith("2 × ")


@pytest.mark.parametrize("name", BOTH)
def test_only_branch_parameters_change_and_upstream_is_exact(name: str):
    model, x, graph = cases.residual()
    plain = backward(model, x)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with remedy(name).plan(graph).apply(model, optimizer) as applied:
        backward(model, x)
        optimizer.step()
        assert len(applied.factors) == 4
        changed = {k for k, p in model.named_parameters() if not torch.equal(plain[k], p.grad)}
        assert changed
        assert all(k.startswith("blocks.") for k in changed)
        # every block's gradient is the exact one times one number: nothing upstream was touched
        for i, skip in enumerate(s.name for s in graph):
            for k, p in model.blocks[i].named_parameters():
                assert torch.equal(p.grad, plain[f"blocks.{i}.{k}"] * applied.factors[skip])


@pytest.mark.parametrize("name", BOTH)
def test_verify_shows_it_and_changes_nothing(name: str):
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(verify: bool) -> dict[str, torch.Tensor]:
        model.load_state_dict(start)
        with remedy(name).plan(graph).apply(model, optimizer) as applied:
            for _ in range(3):
                backward(model, x)
                optimizer.step()
                if verify:
                    seen = applied.verify(Evidence(loss=lambda: model(x).square().mean()))
                    assert seen.ok, str(seen)
                    assert seen.residual == 0
                    assert [c.state for c in seen.checks] == ["passed", "passed"]
        return cases.state(model)

    start = cases.state(model)
    assert cases.same(train(verify=False), train(verify=True))
    assert cases.hooks(model) == 0
    assert "forward" not in vars(model)


def test_verify_sees_a_gradient_that_changed_outside(monkeypatch: pytest.MonkeyPatch):
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with SCALING.plan(graph).apply(model, optimizer) as applied:
        assert isinstance(applied, Steering)
        real: Callable[..., None] = applied._before_step

        def leaky(*args: object) -> None:
            real(*args)
            model.stem.weight.grad.mul_(1.5)

        monkeypatch.setattr(applied, "_before_step", leaky)
        seen = applied.verify(Evidence(loss=lambda: model(x).square().mean()))
        assert seen.checks[0].state == "failed"
        assert seen.residual > 0


def test_verify_without_a_loss_or_an_optimizer_is_not_applicable():
    model, x, graph = cases.residual()
    with SCALING.plan(graph).apply(model) as applied:
        assert not applied.verify().ok
        seen = applied.verify(Evidence(loss=lambda: model(x).sum()))
        assert {c.reason for c in seen.checks} == {"no optimizer attached"}


@pytest.mark.parametrize("name", BOTH)
def test_undo_stops_it(name: str):
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    applied = remedy(name).plan(graph).apply(model, optimizer)
    with pytest.raises(RemedyRefused, match="second optimizer"):
        applied.attach(optimizer)
    applied.undo()
    with pytest.raises(RemedyRefused, match="undone"):
        applied.attach(optimizer)
    assert len(optimizer._optimizer_step_pre_hooks) == 0
    assert "forward" not in vars(model)
    plain = backward(model, x)
    optimizer.step()
    assert all(torch.equal(plain[k], p.grad) for k, p in model.named_parameters())


def test_a_ledger_that_is_open_already_is_used_and_left_open():
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watch(model, graph, optimizer, budget=None) as ledger:
        applied = SCALING.plan(graph).apply(model)
        applied.attach(optimizer, ledger=ledger)
        for _ in range(2):
            backward(model, x)
            optimizer.step()
        assert len(applied.factors) == 4
        assert applied.verify(Evidence(loss=lambda: model(x).square().mean())).ok
        applied.undo()
        backward(model, x)
        assert {r.step for r in ledger.rows()} >= {0, 1}


def test_a_watch_of_the_trainers_own_beside_it():
    model, x, graph = cases.residual()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    applied = SCALING.plan(graph).apply(model, optimizer)
    with watch(model, graph, optimizer, budget=None) as ledger:
        backward(model, x)
        optimizer.step()
    assert len(applied.factors) == 4
    assert len(ledger.rows()) == 4
    applied.undo()


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_it_steers_a_long_training_as_it_steers_a_short_one(shared: bool, monkeypatch: pytest.MonkeyPatch):
    """What a ledger keeps of a long training is less than what it hands on."""

    def trained() -> dict[str, torch.Tensor]:
        model, x, graph = cases.residual()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with ExitStack() as stack:
            ledger = stack.enter_context(watch(model, graph, optimizer, budget=None)) if shared else None
            applied = stack.enter_context(SCALING.plan(graph).apply(model))
            applied.attach(optimizer, ledger=ledger)
            for _ in range(60):
                backward(model, x)
                optimizer.step()
            assert applied.notes == ()
        return {k: p.detach().clone() for k, p in model.named_parameters()}

    def run(long: bool) -> dict[str, torch.Tensor]:
        with monkeypatch.context() as patch:
            if long:
                patch.setattr(schedule, "MOST_ROWS", 1)
            return trained()

    same_bits("residual", run)


def test_accumulation_and_a_transformer_of_torch():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    model, x = nn.Sequential(nn.Linear(5, 16), encoder), torch.randn(2, 4, 5)
    graph = sg.find(model, x)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with SCALING.plan(graph).apply(model, optimizer) as applied:
        for _ in range(2):
            for _ in range(2):
                model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert len(applied.factors) == len(graph) == 6
        assert applied.notes == ()


@pytest.mark.slow
def test_compiled_and_fused_steps():
    model, x, graph = cases.residual()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
    with SCALING.plan(graph).apply(compiled, optimizer) as applied:
        compiled(x).square().mean().backward()
        optimizer.step()
        assert len(applied.factors) == 4


# -- which parameters belong to which skip -----------------------------------------------------------


def test_nested_branches_belong_to_the_innermost_skip_and_shared_ones_to_none():
    graph = SkipGraph(
        (
            cases.skip("inner", ("a", "b"), start=1, end=3),
            cases.skip("outer", ("down", "a", "b", "up"), start=0, end=4),
            cases.skip("one", ("tied", "own"), start=4, end=6),
            cases.skip("two", ("tied#2",), start=6, end=7),
        )
    )
    modules, left = modules_by_skip(graph)
    assert modules == {"inner": ("a", "b"), "outer": ("down", "up"), "one": ("own",)}
    assert [(s.skip, s.reason) for s in left] == [("two", "'tied' is on several branches")]


def test_tied_weights_are_left_alone():
    model, x, graph = cases.residual(depth=2)
    model.head.weight = nn.Parameter(torch.zeros(8, 8, dtype=torch.float64))
    model.head.bias = nn.Parameter(torch.zeros(8, dtype=torch.float64))
    model.blocks[0].f[2].weight = model.head.weight
    with SCALING.plan(graph).apply(model) as applied:
        assert "shares a weight" in applied.skipped[-1].reason
        ids = {id(p) for ps in applied.parameters.values() for p in ps}
        assert id(model.head.weight) not in ids
        assert id(model.blocks[0].f[2].bias) in ids
    assert x.shape == (6, 5)


@pytest.mark.parametrize("name", BOTH)
def test_what_it_remembers_is_saved_and_it_goes_on_from_there(name: str):
    def trained(steps: int, state: dict | None = None, weights: dict | None = None):
        model, x, graph = cases.residual(depth=3)
        if weights is not None:
            model.load_state_dict(weights)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        applied = remedy(name).plan(graph, cases.brute_force(model, x, graph)).apply(model)
        applied.attach(optimizer)
        if state is not None:
            applied.load_state_dict(state)
        for _ in range(steps):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        state, weights = applied.state_dict(), cases.state(model)
        applied.undo()
        return state, weights

    whole, weights = trained(4)
    half, at_half = trained(2)
    rest, again = trained(2, half, at_half)
    assert rest == whole
    assert cases.same(weights, again)
    fresh, _ = trained(2, None, at_half)
    assert fresh["running"] != whole["running"]  # without it, it begins anew
