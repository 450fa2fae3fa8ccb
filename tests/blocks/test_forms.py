"""One conformity suite over the registry of forms: each is what its entry says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import skipgrad as sg
from ledger.replay import brute
from skipgrad.blocks.forms import FORMS, FormEntry, Residual

NAMES = list(FORMS)
WITH_SKIPS = [n for n in NAMES if any(s.kind != "index" for s in FORMS.get(n).finds)]


class Stem(nn.Module):
    """Something learned in front, so that the form's input is an activation with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def made(name: str, dtype: torch.dtype = torch.float64) -> tuple[FormEntry, nn.Module, Tensor]:
    torch.manual_seed(0)
    entry = FORMS.get(name)
    return entry, entry.example().to(dtype), torch.randn(entry.shape, dtype=dtype)


def moved(form: nn.Module) -> nn.Module:
    """The same form away from its start, where nothing is zero or one."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in form.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator).to(p.dtype))
    return form


def objective(out: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return (out * weights).sum() + out.pow(2).sum()


def gradients(form: nn.Module, x: Tensor, run=lambda form, x: form(x)) -> list[Tensor]:  # type: ignore[no-untyped-def]
    leaf = x.detach().requires_grad_()
    out = run(form, leaf)
    loss = objective(out if out.dtype == torch.float64 else out.float())
    return list(torch.autograd.grad(loss, [leaf, *form.parameters()], materialize_grads=True))


@pytest.mark.parametrize("name", NAMES)
def test_find_answers_exactly_what_the_entry_states(name: str) -> None:
    entry, form, x = made(name)
    graph = sg.find(nn.Sequential(Stem(), form), x)
    found = [(s.kind, s.shortcut, s.span, s.fan_in, s.long) for s in graph]
    assert found == [(s.kind, s.shortcut, s.span, s.fan_in, s.long) for s in entry.finds]
    assert graph.unknown == ()
    assert graph.notes == ()


@pytest.mark.parametrize("name", WITH_SKIPS)
def test_s_and_b_are_those_of_autograd(name: str) -> None:
    _, form, x = made(name)
    model = nn.Sequential(Stem(), moved(form)).double()
    with sg.watch(model) as ledger:
        objective(model(x)).backward()
    assert ledger.notes == []
    rows = {r.skip: r for r in ledger.rows()}
    expected = brute(model, (x,), {}, objective, [s.name for s in sg.find(model, x)])
    assert rows.keys() == expected.keys()
    for skip, answer in expected.items():
        for column, value in answer.items():
            assert getattr(rows[skip], column) == pytest.approx(value, rel=1e-10, abs=1e-12), (skip, column)


@pytest.mark.parametrize("name", NAMES)
def test_the_initial_function_is_the_documented_one_bit_for_bit(name: str) -> None:
    entry, form, x = made(name)
    assert torch.equal(form(x), entry.initially(form, x))
    assert (entry.start == "the identity") <= torch.equal(form(x), x)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_dict_goes_round(name: str) -> None:
    entry, form, x = made(name)
    moved(form)
    torch.manual_seed(9)
    other = entry.example().double()
    state = form.state_dict()
    assert not torch.equal(form(x), other(x))
    assert other.load_state_dict(state).missing_keys == []
    assert torch.equal(form(x), other(x))


# Torch looks at the gradient of whatever is passed on behind a graph break.
BREAKS = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@BREAKS
@pytest.mark.parametrize("name", NAMES)
def test_compiled_as_in_eager_mode(name: str) -> None:
    entry, form, x = made(name)
    moved(form)
    torch._dynamo.reset()
    compiled = torch.compile(form, backend="aot_eager", fullgraph=not entry.breaks)
    for a, b in zip(gradients(form, x), gradients(compiled, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@BREAKS
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_by_inductor_as_in_eager_mode(name: str) -> None:
    entry, form, x = made(name)
    moved(form)
    torch._dynamo.reset()
    compiled = torch.compile(form, fullgraph=not entry.breaks)
    for a, b in zip(gradients(form, x), gradients(compiled, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_finite(name: str) -> None:
    _, form, x = made(name, torch.bfloat16)
    assert form(x).dtype == torch.bfloat16
    assert all(g is not None and g.isfinite().all() for g in gradients(form, x))


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast(name: str) -> None:
    _, form, x = made(name, torch.float32)

    def run(form: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return form(x)

    plain, cast = gradients(form, x), gradients(form, x, run)
    for a, b in zip(plain, cast, strict=True):
        assert b.dtype == torch.float32
        assert (a - b).norm() <= 0.1 * a.norm() + 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float64(name: str) -> None:
    _, form, x = made(name)
    moved(form)
    names = [n for n, _ in form.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(form, dict(zip(names, values, strict=True)), (x,))

    leaves = [x.requires_grad_(), *(p.detach().requires_grad_() for p in form.parameters())]
    if name == "reversible":  # its backward runs the module's own parameters, not those put in their place
        leaves, call = leaves[:1], lambda x: form(x)  # type: ignore[assignment]
    assert torch.autograd.gradcheck(call, leaves, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_under_checkpointing(name: str) -> None:
    _, form, x = made(name)
    moved(form)
    again = gradients(form, x, lambda form, x: checkpoint(form, x, use_reentrant=False))  # type: ignore[return-value]
    for a, b in zip(gradients(form, x), again, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_it_nests(name: str) -> None:
    entry, form, x = made(name)
    image, out = x.dim() == 4, form(x)
    # A layer first: x + (x + F(x)) is one add of three operands.
    branch = nn.Sequential(nn.Conv2d(4, 4, 1) if image else nn.Linear(6, 6), form)
    if out.shape != x.shape:
        branch.append(nn.Conv2d(out.shape[1], 4, 1) if image else nn.Linear(out.shape[-1], 6))
    if out.shape[2:] != x.shape[2:]:
        branch.append(nn.Upsample(scale_factor=2.0))
    graph = sg.find(nn.Sequential(Stem(), Residual(branch.double())), x)
    kinds = [(s.kind, s.span, s.fan_in) for s in graph.skips[:-1]]
    assert kinds == [(s.kind, s.span, s.fan_in) for s in entry.finds]
    assert graph.skips[-1].kind == "add"
    assert graph.skips[-1].shortcut == "identity"


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_is_for_matrices_only(name: str) -> None:
    _, form, _ = made(name)
    branch = {id(m.weight) for m in form.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    groups = sg.param_groups(form, weight_decay=0.1)
    decayed = [p for g in groups if g["weight_decay"] for p in g["params"]]
    assert {id(p) for p in decayed} == branch


@pytest.mark.parametrize("name", NAMES)
def test_it_builds_without_memory_and_its_entry_says_all(name: str) -> None:
    entry = FORMS.get(name)
    with torch.device("meta"):
        assert entry.example()(torch.empty(entry.shape)).is_meta
    for field in ("title", "formula", "paper", "shapes", "start", "when", "cost"):
        assert getattr(entry, field)
    assert "arXiv" in entry.paper
    assert entry.build.__doc__
    assert any(isinstance(m, entry.build) for m in entry.example().modules())


def test_copies_and_deep_copies_are_forms_of_their_own() -> None:
    for name in NAMES:
        _, form, x = made(name)
        other = copy.deepcopy(form)
        moved(other)
        assert torch.equal(FORMS.get(name).initially(form, x), form(x))
