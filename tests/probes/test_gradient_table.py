"""`gradient_table`: its formulas against autograd, against finite differences and against torch's own transposes."""

from __future__ import annotations

import copy
import json
import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from torch import Tensor, nn

from skipgrad.core import BadInput, MeasureError
from skipgrad.lab import GradientRow, Residual, gradient_table
from skipgrad.probes.table.default import lived_in
from skipgrad.probes.table.kinds import KINDS

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
EXACT = 1e-13
SAME = pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch's word on even kernels, which are meant here


def some(examples: int) -> Any:
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


def seeded(make: Any, seed: int = 0) -> Any:
    """A layer with weights from the seed, and norms that have seen something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = make()
        lived_in(layer)
    return layer.double()


def differences(layer: nn.Module, row: GradientRow) -> Tensor:
    """dL/dx of L = ⟨dL/dy, y⟩ by central differences, with no autograd anywhere."""
    layer = copy.deepcopy(layer).double().train(row.mode != "evaluation")
    for module in layer.modules():
        if hasattr(module, "momentum"):
            module.momentum = 0.0  # the forward runs often, and running statistics are to stay
    step, found = 1e-5, torch.empty(row.x.numel(), dtype=torch.float64)
    with torch.no_grad():
        for i in range(row.x.numel()):
            sides = []
            for sign in (1, -1):
                x = row.x.clone()
                x.view(-1)[i] += sign * step
                sides.append((row.grad_output * layer(x)).sum())
            found[i] = (sides[0] - sides[1]) / (2 * step)
    return found.reshape(row.x.shape)


def apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


# Convolutions


@st.composite
def convolutions(draw: st.DrawFn, keeps: bool = False) -> tuple[Any, tuple[int, ...]]:
    """A convolution, and a shape of x; `keeps`: one that keeps the shape."""
    dims = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(dims))  # noqa: E731
    groups = draw(st.integers(1, 3))
    into = groups * draw(st.integers(1, 2))
    out = into if keeps else groups * draw(st.integers(1, 2))
    kernel, dilation = each(1, 4), each(1, 3)
    mode = draw(st.sampled_from(("zeros", "reflect", "replicate", "circular")))
    padding: Any = "same" if keeps else draw(st.sampled_from(("same", "valid", "numbers")))
    stride = each(1, 3) if padding != "same" else 1
    if padding == "numbers":
        padding = each(0, 3)
    conv = seeded(
        lambda: CONVOLUTIONS[dims - 1](
            into, out, kernel, stride, padding, dilation, groups, draw(st.booleans()), padding_mode=mode
        ),
        draw(st.integers(0, 99)),
    )
    sizes = each(1, 9)
    shape = (draw(st.integers(1, 3)), into, *sizes)
    try:
        conv(torch.zeros(shape, dtype=torch.float64))
    except RuntimeError:  # the kernel or the padding is larger than the image
        assume(False)
    return conv, shape


@SAME
@some(150)
@given(convolutions())
def test_the_transposed_convolution_is_the_gradient_of_any_convolution(drawn):
    conv, shape = drawn
    (row,) = gradient_table(conv, shape)
    assert (row.mode, row.input_shape, row.kind) == ("both", shape, "convolution")
    assert row.error < EXACT
    # The transpose of a linear map, told without autograd: ⟨g, W∗x⟩ = ⟨Wᵀ∗g, x⟩.
    with torch.no_grad():
        bias = 0 if conv.bias is None else conv.bias.reshape(-1, *(1,) * (len(shape) - 2))
        there, back = (row.grad_output * (conv(row.x) - bias)).sum(), (row.by_formula * row.x).sum()
    size = float(row.by_formula.norm() * row.x.norm())
    assert float((there - back).abs()) < EXACT * max(size, 1e-30)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_is_torchs_transposed_convolution(dims):
    conv = seeded(lambda: CONVOLUTIONS[dims - 1](4, 6, 3, stride=2, padding=2, dilation=2, groups=2))
    (row,) = gradient_table(conv)
    back = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[dims - 1]
    rest = [n - ((o - 1) * 2 - 4 + 2 * 2 + 1) for n, o in zip(row.input_shape[2:], row.output_shape[2:], strict=True)]
    with torch.no_grad():
        twin = back(row.grad_output, conv.weight, stride=2, padding=2, output_padding=rest, groups=2, dilation=2)
    assert max(rest) == 1  # the rest that the stride does not reach is there
    assert apart(row.by_formula, twin) < EXACT


@SAME
@some(60)
@given(convolutions(keeps=True))
def test_a_skip_adds_the_gradient_of_its_output(drawn):
    conv, shape = drawn
    (row,) = gradient_table(Residual(conv), shape)
    assert (row.kind, row.formula) == ("skip around a layer", "dL/dy + Wᵀ ∗ dL/dF")
    assert row.error < EXACT
    shortcut, branch = row.terms
    assert torch.equal(shortcut.gradient, row.grad_output)
    (plain,) = gradient_table(conv, row.x, row.grad_output)
    assert torch.equal(branch.gradient, plain.by_formula)
    assert torch.equal(row.by_formula, shortcut.gradient + branch.gradient)


def test_an_input_without_a_batch():
    conv = seeded(lambda: nn.Conv2d(3, 2, 3, 2, 1))
    (row,) = gradient_table(conv, (3, 6, 7))
    assert row.error < EXACT
    assert row.by_formula.shape == (3, 6, 7)


# Norms


@st.composite
def batch_norms(draw: st.DrawFn) -> tuple[Any, tuple[int, ...]]:
    dims = draw(st.integers(0, 3))
    channels = draw(st.integers(1, 4))
    make = NORMS[max(dims, 1) - 1]
    affine, track, eps = draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from((1e-5, 1e-3, 0.5)))
    norm = seeded(lambda: make(channels, eps=eps, affine=affine, track_running_stats=track), draw(st.integers(0, 99)))
    return norm, (draw(st.integers(6, 9)), channels, *(draw(st.integers(1, 4)) for _ in range(dims)))


@some(100)
@given(batch_norms(), st.integers(0, 99))
def test_batch_norm_has_two_more_terms_where_the_statistics_are_the_batchs(drawn, seed):
    norm, shape = drawn
    rows = list(gradient_table(norm, shape, seed=seed))
    frozen = norm.running_mean is not None
    assert [row.mode for row in rows] == (["training", "evaluation"] if frozen else ["both"])
    for row in rows:
        assert row.error < 1e-12
        if row.mode == "evaluation":
            assert len(row.terms) == 1
            assert row.popular_error < EXACT
            continue
        assert [term.path for term in row.terms] == ["past the statistics", "through the mean", "through the variance"]
        direct, mean, variance = (term.gradient for term in row.terms)
        assert torch.equal(direct, row.by_popular)
        # Moving a whole channel changes nothing: over a channel the gradient adds up to zero.
        dims = [i for i in range(len(shape)) if i != 1]
        assert float(row.measured.sum(dims).abs().max()) < 1e-12 * float(direct.norm())
        # The two terms the popular formula leaves out are at right angles, and are all of its error.
        off = math.hypot(float(mean.norm()), float(variance.norm())) / float(row.measured.norm())
        assert row.popular_error == pytest.approx(off, rel=1e-6)
        assert row.popular_error > 1e-9


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_batch_norm_against_finite_differences_in_both_modes(dims, affine):
    norm = seeded(lambda: NORMS[dims - 1](2, affine=affine), dims)
    shape = (5, 2, *(3, 2, 2)[:dims])
    for row in gradient_table(norm, shape):
        truth = differences(norm, row)
        assert apart(row.measured, truth) < 1e-8
        assert apart(row.by_formula, truth) < 1e-8
        assert (apart(row.by_popular, truth) < 1e-8) is (row.mode == "evaluation")
        if row.mode == "training":
            assert apart(row.by_popular, truth) > 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LayerNorm(4),
        lambda: nn.LayerNorm((3, 4), elementwise_affine=False),
        lambda: nn.LayerNorm(4, bias=False),
        lambda: nn.GroupNorm(2, 4),
        lambda: nn.GroupNorm(1, 2, affine=False),
        lambda: nn.InstanceNorm2d(2),
        lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
        lambda: nn.RMSNorm(4),
        lambda: nn.RMSNorm(4, elementwise_affine=False, eps=0.1),
        lambda: Residual(nn.Sequential(nn.BatchNorm1d(3), nn.Tanh(), nn.Conv1d(3, 3, 3, padding=1))),
        lambda: nn.Sequential(Residual(nn.Linear(4, 4)), nn.Sigmoid(), nn.LayerNorm(4), nn.ReLU()),
    ],
)
def test_other_layers_against_finite_differences(make):
    layer = seeded(make)
    for row in gradient_table(layer):
        truth = differences(layer, row)
        assert apart(row.measured, truth) < 1e-7
        assert apart(row.by_formula, truth) < 1e-7
        assert row.error < EXACT


def test_a_sum_has_no_gradient_behind_batch_norm_whatever_the_popular_formula_says():
    norm = seeded(lambda: nn.BatchNorm2d(3))
    ones = torch.ones(4, 3, 2, 2, dtype=torch.float64)
    row = gradient_table(norm, (4, 3, 2, 2), ones).row("BatchNorm2d(3)", "training")
    assert float(row.measured.norm()) < EXACT
    assert float(row.by_formula.norm()) < EXACT
    sigma = torch.sqrt(row.x.var((0, 2, 3), unbiased=False) + norm.eps)
    expected = (norm.weight.detach() / sigma).reshape(3, 1, 1).expand(4, 3, 2, 2)
    torch.testing.assert_close(row.by_popular, expected)


def test_the_popular_formula_goes_through_skips_and_chains():
    norm, conv = seeded(lambda: nn.BatchNorm2d(3)), seeded(lambda: nn.Conv2d(3, 3, 1))
    around = gradient_table({"around": Residual(nn.Sequential(norm, conv))}).row("around")
    inner = gradient_table(conv, around.x, around.grad_output).rows[0]
    alone = gradient_table(norm, around.x, inner.by_formula).rows[0]
    torch.testing.assert_close(around.by_popular, around.grad_output + alone.by_popular)
    assert around.popular_error > 0.01
    assert gradient_table(Residual(conv)).rows[0].by_popular is None


# Every kind

EXAMPLES = {
    "convolution": lambda: nn.Conv2d(2, 3, 3),
    "skip around a layer": lambda: Residual(Residual(nn.Conv2d(2, 2, 3, padding=1))),
    "batch norm": lambda: nn.BatchNorm2d(3),
    "linear": lambda: nn.Linear(4, 3),
    "layer norm": lambda: nn.LayerNorm((3, 5)),
    "group norm": lambda: nn.GroupNorm(2, 6),
    "instance norm": lambda: nn.InstanceNorm3d(3, affine=True, track_running_stats=True),
    "RMS norm": lambda: nn.RMSNorm(6),
    "ReLU": lambda: nn.ReLU(),
    "sigmoid": lambda: nn.Sigmoid(),
    "tanh": lambda: nn.Tanh(),
    "layers in a row": lambda: nn.Sequential(nn.Conv2d(2, 3, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 2)),
}


def test_every_kind_has_an_example():
    assert set(EXAMPLES) == set(KINDS)


@pytest.mark.parametrize("name", list(KINDS))
def test_every_kind_is_right_without_autograd(name):
    layer, kind = seeded(EXAMPLES[name]), KINDS.get(name)
    for row in gradient_table(layer):
        assert row.kind == name
        assert row.error < EXACT
        assert "{" not in row.formula
        assert "dL/dy" in row.formula
        twin = copy.deepcopy(layer).train(row.mode != "evaluation")
        with torch.inference_mode():  # in which autograd has nothing to work with
            again = kind.gradient(twin, row.x, row.grad_output)
        torch.testing.assert_close(again, row.by_formula, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(sum(t.gradient for t in row.terms), row.by_formula)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_formula_that_is_off_by_a_billionth_is_seen(name, monkeypatch):
    layer, kind = seeded(EXAMPLES[name]), KINDS.get(name)
    right = type(kind).parts

    def wrong(self, layer, x, g):
        first, *rest = right(self, layer, x, g)
        return (type(first)(first.path, first.formula, first.gradient * (1 + 1e-9)), *rest)

    monkeypatch.setattr(type(kind), "parts", wrong)
    assert all(row.error > 1e-10 for row in gradient_table(layer))


# What is done with the layers


def test_without_arguments_it_shows_the_rows_of_a_table_of_layers():
    table = gradient_table()
    kinds = {row.kind for row in table}
    assert kinds >= {"convolution", "skip around a layer", "batch norm", "linear", "layer norm", "group norm", "ReLU"}
    assert all(row.error < EXACT for row in table)
    norm = {row.mode: row for row in table if row.kind == "batch norm"}
    assert norm["training"].popular_error > 0.1
    assert norm["evaluation"].popular_error < EXACT
    assert len(table) == len(table.rows)
    assert str(gradient_table()) == str(table)


def test_layers_modes_and_random_numbers_are_left_as_they_were():
    layers = {"norm": nn.BatchNorm2d(4).eval(), "act": nn.ReLU(inplace=True), "conv": nn.Conv2d(3, 4, 3)}
    before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in layers.items()}
    state, x = torch.get_rng_state(), torch.randn(5, 4, 3, 3)
    given = x.clone()
    torch.set_rng_state(state)
    gradient_table(layers, {"norm": x, "act": x})
    gradient_table()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, given)
    assert [m.training for m in layers.values()] == [False, True, True]
    for name, layer in layers.items():
        assert all(torch.equal(v, before[name][k]) for k, v in layer.state_dict().items())
        assert all(p.grad is None and p.dtype == torch.float32 for p in layer.parameters())


def test_inputs_and_gradients_of_ones_own():
    conv, x, g = nn.Conv1d(2, 2, 1), torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    (row,) = gradient_table(conv, x, g)
    assert torch.equal(row.x, x.double())
    assert torch.equal(row.grad_output, g.double())
    table = gradient_table({"a": conv, "b": nn.ReLU()}, {"b": (2, 2)}, {"a": torch.ones(3, 2, 4)})
    assert table.row("b").input_shape == (2, 2)
    assert torch.equal(table.row("a").grad_output, torch.ones(3, 2, 4, dtype=torch.float64))
    assert [r.input_shape for r in gradient_table([nn.ReLU(), nn.ReLU()], [(7,), None])] == [(7,), (4, 8)]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)])
def test_other_precisions(dtype, bound):
    table = gradient_table(dtype=dtype)
    assert table.dtype == str(dtype).removeprefix("torch.")
    errors = [row.error for row in table]
    assert 1e-10 < max(errors) < bound
    assert all(row.measured.dtype == dtype == row.by_formula.dtype for row in table)


def test_the_surroundings_do_not_matter():
    norm = nn.BatchNorm2d(3)
    alone = gradient_table(norm)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert [r.error for r in gradient_table(norm)] == [r.error for r in alone]
    with torch.inference_mode():
        assert [r.error for r in gradient_table(norm)] == [r.error for r in alone]
    linear = nn.Linear(64, 64)
    (single,) = gradient_table(linear, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):  # which casts what is float32, for autograd and formula alike
        (row,) = gradient_table(linear, dtype=torch.float32)
    assert torch.equal(row.measured, single.measured)
    assert torch.equal(row.by_formula, single.by_formula)


@pytest.mark.parametrize("name", ["spectral_norm", "weight_norm"])
def test_a_parametrized_weight_is_the_same_for_autograd_and_formula(name):
    wrap = getattr(torch.nn.utils.parametrizations, name)
    (row,) = gradient_table(wrap(nn.Conv2d(3, 4, 3)))
    assert row.error < EXACT


def test_a_subclass_with_the_inherited_forward_is_of_its_kind_and_another_forward_is_not():
    class Same(nn.Conv2d):
        pass

    class Twice(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    class Standardized(nn.Conv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(input, weight - weight.mean(), bias)

    assert gradient_table(Same(2, 2, 3)).rows[0].error < EXACT
    for other in (Twice(2, 2, 3), Standardized(2, 2, 3)):
        with pytest.raises(BadInput, match="a Conv2d with a forward of its own"):
            gradient_table(other)


def test_a_layer_that_does_something_else_shows_a_large_error():
    # x is overwritten before it is added: y = relu(x) + F(relu(x)), which is no skip.
    (row,) = gradient_table(Residual(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 5))))
    assert row.error > 0.1


def test_a_row_for_both_modes_has_the_larger_error():
    for wrong_in_training in (True, False):
        layer = nn.Linear(3, 3)
        layer.register_forward_hook(lambda m, _, y, wrong=wrong_in_training: 2 * y if m.training is wrong else y)
        (row,) = gradient_table(layer)
        assert (row.mode, row.error) == ("both", pytest.approx(0.5))


def test_a_gradient_of_zero():
    (row,) = gradient_table(nn.ReLU(), -torch.ones(3))
    assert (row.error, float(row.measured.norm()), row.terms[0].size) == (0.0, 0.0, 0.0)


# How it looks


def test_how_it_looks(snapshot: SnapshotAssertion):
    text = str(gradient_table())
    assert max(map(len, text.splitlines())) <= 110
    assert re.sub(r"\s{2,}(\d\S*e-1\d|0)$", "  ~0", text, flags=re.MULTILINE) == snapshot


def test_the_legend_names_only_what_is_there():
    text = str(gradient_table(nn.ReLU()))
    assert not any(word in text for word in ("popular", "terms", "x̂", "dL/dF", "J₁"))


def test_names_are_escaped_in_a_notebook_and_cleaned_in_the_terminal():
    table = gradient_table({"<script>\x1b[31m": nn.BatchNorm1d(2)})
    page = table._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + str(table)
    assert "γ/σ·dL/dy" in page


def test_plain_data():
    table = gradient_table([nn.BatchNorm1d(2), nn.Linear(2, 2)])
    data = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert [(r["layer"], r["mode"]) for r in data["rows"]] == [
        ("BatchNorm1d(2)", "training"),
        ("BatchNorm1d(2)", "evaluation"),
        ("Linear(in_features=2, out_features=2)", "both"),
    ]
    assert data["rows"][0]["popular_error"] == table.rows[0].popular_error
    assert [t["path"] for t in data["rows"][0]["terms"]][1:] == ["through the mean", "through the variance"]
    assert "measured" not in data["rows"][0]


# Bad input


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((Unknown(),), ["Unknown", "unknown kind", "Conv2d", "BatchNorm1d", "Residual", "LayerNorm", "ReLU"]),
        ((nn.Sequential(nn.ReLU(), Unknown()),), ["Unknown", "unknown kind"]),
        ((Residual(Unknown()),), ["x \\+ F\\(x\\), F = Unknown", "unknown kind"]),
        ((nn.ReLU,), ["the class ReLU", "pass modules"]),
        ((3,), ["layer 0", "int"]),
        (("conv",), ["layer 0", "str"]),
        (([],), ["layers", "none"]),
        (({"a": 1},), ["layer a", "int"]),
        ((nn.LazyConv2d(3, 3),), ["lazy", "run it once"]),
        ((nn.Conv2d(1, 1, 1, device="meta"),), ["meta device"]),
        ((nn.Conv2d(1, 1, 1, dtype=torch.complex64),), ["complex"]),
        ((nn.BatchNorm2d(3), (1, 3, 1, 1)), ["1×3×1×1", "more than 1 value per channel"]),
        ((nn.Conv2d(3, 3, 3), (1, 4, 5, 5)), ["1×4×5×5", "inputs="]),
        ((nn.Conv2d(3, 3, 3), (1, 3, -5, 5)), ["inputs of Conv2d", "-5"]),
        ((nn.Conv2d(3, 3, 3), "image"), ["inputs of Conv2d", "image"]),
        ((nn.ReLU(), torch.ones(3, dtype=torch.int64)), ["torch.int64", "floats"]),
        ((nn.ReLU(), torch.ones(0, 3)), ["0×3"]),
        (([nn.ReLU(), nn.ReLU()], [(3,)]), ["1 for 2 layers"]),
        (([nn.ReLU(), nn.ReLU()], torch.ones(2)), ["a Tensor for 2 layers"]),
        (({"a": nn.ReLU()}, {"b": (3,)}), ["'b'", "called a"]),
        ((nn.Linear(2, 3), (4, 2), torch.ones(4, 2)), ["grads of Linear", "4×2", "4×3"]),
        ((nn.Linear(2, 3), None, 5), ["grads of Linear", "int"]),
        ((Residual(nn.Linear(2, 3)),), ["4×2", "4×3", "keep the shape"]),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(BadInput) as caught:
        gradient_table(*arguments)
    for word in words:
        assert re.search(word, str(caught.value)), f"{word!r} is not in:\n{caught.value}"


def test_other_refusals():
    with pytest.raises(BadInput, match="int32"):
        gradient_table(nn.ReLU(), dtype=torch.int32)
    broken = nn.Linear(2, 2)
    nn.init.constant_(broken.weight, math.nan)
    with pytest.raises(MeasureError, match="not finite"):
        gradient_table(broken)
    table = gradient_table({"act": nn.ReLU()})
    with pytest.raises(BadInput, match="known: act"):
        table.row("norm")
    with pytest.raises(BadInput, match="'eval'"):
        table.row("act", "eval")
