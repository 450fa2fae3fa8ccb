"""Each source of a concatenation by itself, against autograd on the same net with a copy of each tensor joined."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import skipgrad as sg
from finder.nets import made
from repeatable import same_bits
from skipgrad.core import BadInput, SourceRow, source_shares
from skipgrad.models.nets.dense import DenseNet

# name of the source, S and B on it
Answer = list[tuple[str, Tensor, Tensor]]


def objective(out: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return (out * weights).sum() + out.pow(2).sum()


# -- torchvision's: a list that grows, concatenated anew before each layer ---------------------------


class Copied(TorchFunctionMode):
    """Gives every concatenation a copy of each of its operands, and keeps the copies."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "cat":
            self.calls.append([t.clone() for t in args[0]])
            args = (self.calls[-1], *args[1:])
        return func(*args, **(kwargs or {}))


def torchvision_net(*, frugal: bool = False, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Tensor]:
    cls = pytest.importorskip("torchvision").models.DenseNet
    torch.manual_seed(0)
    net = cls(4, (3, 3), num_init_features=6, bn_size=2, num_classes=5, memory_efficient=frugal)
    return net.to(dtype), torch.randn(2, 3, 32, 32, dtype=dtype)


def torchvision_answers() -> dict[str, Answer]:
    model, x = torchvision_net()
    with Copied() as copies:
        loss = objective(model(x))
    answers = {}
    for block, first in ((1, 0), (2, 4)):  # four concatenations a block: one per layer, and one at its end
        names = ["features.conv0" if block == 1 else "features.transition1.conv"]
        names += [f"features.denseblock{block}.denselayer{k}.conv2" for k in (1, 2)]
        for k, merge in ((2, f"features.denseblock{block}.denselayer3"), (3, f"features.denseblock{block}")):
            branch, shortcut = copies.calls[first + k - 1], copies.calls[first + k][:k]
            grads = torch.autograd.grad(loss, [*shortcut, *branch], retain_graph=True)
            answers[merge] = list(zip(names[:k], grads[:k], grads[k:], strict=True))
    return answers


def check(rows: list[SourceRow], answers: dict[str, Answer], rel: float = 1e-10) -> None:
    assert list(dict.fromkeys(r.skip for r in rows)) == list(answers)
    for merge, answer in answers.items():
        mine = [r for r in rows if r.skip == merge]
        assert [(r.source, r.number) for r in mine] == [(name, k) for k, (name, _, _) in enumerate(answer)]
        whole = sum((s + b).pow(2).sum().item() for _, s, b in answer)
        for row, (_, s, b) in zip(mine, answer, strict=True):
            expected = {
                "skip_norm": s.norm().item(),
                "branch_norm": b.norm().item(),
                "total_norm": (s + b).norm().item(),
                "cosine": ((s * b).sum() / (s.norm() * b.norm())).item(),
                "share": (s + b).pow(2).sum().item() / whole,
            }
            for column, value in expected.items():
                assert getattr(row, column) == pytest.approx(value, rel=rel, abs=1e-13), (merge, row.source, column)
            assert row.width == s.shape[1]
            assert row.finite


def watched(model: nn.Module, x: Tensor, **kinds: Any) -> sg.Ledger:
    with sg.watch(model, sources=True, **kinds) as ledger:
        objective(ledger._user_model(x)).backward()
    assert ledger.notes == []
    return ledger


@pytest.mark.parametrize("frugal", [False, True])
def test_torchvision_to_ten_digits(frugal: bool) -> None:
    """With ``memory_efficient=True`` the concatenations are inside checkpoints."""
    check(watched(*torchvision_net(frugal=frugal)).sources(), torchvision_answers())


# -- the last concatenation and the newest tensor ---------------------------------------------------


def test_built_in_dense_net_to_ten_digits() -> None:
    torch.manual_seed(0)
    model, x = DenseNet(13).double(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    answers: dict[str, Answer] = {}
    kept: list[tuple[str, Tensor, Tensor, list[str]]] = []
    y = model.conv(x)
    for index, block in enumerate(model.blocks):
        names = ["conv" if index == 0 else f"transitions.{index - 1}"]
        for k, layer in enumerate(block):
            s, b = y.clone(), y.clone()
            y = torch.cat([s, layer.conv(F.relu(layer.norm(b)))], 1)
            kept.append((f"blocks.{index}.{k}", s, b, [*names]))
            names.append(f"blocks.{index}.{k}.conv")
        if index < 2:
            y = F.avg_pool2d(model.transitions[index](y), 2)
    loss = objective(model.head(F.relu(model.norm(y)).mean(dim=(2, 3))))
    for merge, s, b, names in kept:
        if len(names) > 1:
            s_grad, b_grad = torch.autograd.grad(loss, [s, b], retain_graph=True)
            widths = [s.shape[1] - 4 * (len(names) - 1)] + [4] * (len(names) - 1)
            answers[merge] = list(zip(names, s_grad.split(widths, 1), b_grad.split(widths, 1), strict=True))
    assert len(answers) == 6
    check(watched(model, x).sources(), answers)


class Backwards(nn.Module):
    """The newest tensor first: as a list that is concatenated anew, or as the last concatenation behind it."""

    def __init__(self, *, nested: bool) -> None:
        super().__init__()
        self.nested = nested
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(5 + 2 * k, 2, 3, padding=1) for k in range(4))

    def forward(self, x: Tensor, taken: list[tuple[Tensor, Tensor]] | None = None) -> Tensor:
        """With `taken`, the last concatenation is used as two copies: for the shortcut, and for the branch."""
        group = [self.stem(x)]
        for layer in self.layers:
            y = torch.cat(group, 1) if len(group) > 1 else group[0]
            s, b = (y, y) if taken is None else (y.clone(), y.clone())
            new = torch.tanh(layer(b))
            group = [new, s] if self.nested else [new, *group]
            if taken is not None:
                taken.append((s, b))
        return torch.cat(group, 1).mean((2, 3))


def backwards_answers(model: Backwards, x: Tensor) -> dict[str, Answer]:
    names = ["stem", "layers.0", "layers.1", "layers.2"]
    answers: dict[str, Answer] = {}
    taken: list[tuple[Tensor, Tensor]] = []
    with Copied() as copies:
        loss = objective(model(x, taken if model.nested else None))
    for k in (2, 3, 4):
        if model.nested:
            pair = torch.autograd.grad(loss, taken[k - 1], retain_graph=True)
            s, b = (g.split([2] * (k - 1) + [5], 1) for g in pair)
        else:
            s = torch.autograd.grad(loss, copies.calls[k - 1][1:], retain_graph=True)
            b = torch.autograd.grad(loss, copies.calls[k - 2], retain_graph=True)
        answers[f"root#{k}"] = list(zip(names[:k], s[::-1], b[::-1], strict=True))
    return answers


@pytest.mark.parametrize("nested", [False, True])
def test_another_order_to_ten_digits(nested: bool) -> None:
    torch.manual_seed(0)
    model, x = Backwards(nested=nested).double(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    check(watched(model, x).sources(), backwards_answers(model, x))


class Mixed(nn.Module):
    """A fork of two tensors of which one is a concatenation, along the last dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.f = nn.Linear(6, 3), nn.Linear(6, 4), nn.Linear(6, 2), nn.Linear(9, 5)

    def forward(self, x: Tensor, copy: Callable[[Tensor], Tensor] = lambda t: t) -> Tensor:
        ab = torch.cat([torch.tanh(self.a(x)), self.b(x).relu()], -1).clone()
        c = self.c(x).sigmoid()
        f = torch.tanh(self.f(torch.cat([copy(c), copy(ab)], -1)))
        return torch.cat([f, copy(c), copy(ab)], -1)


def test_a_source_that_is_a_concatenation_is_taken_apart() -> None:
    torch.manual_seed(0)
    model, x = Mixed().double(), torch.randn(7, 6, dtype=torch.float64)
    copies: list[Tensor] = []

    def copy(t: Tensor) -> Tensor:
        copies.append(t.clone())
        return copies[-1]

    loss = objective(model(x, copy))
    c_b, ab_b, c_s, ab_s = torch.autograd.grad(loss, copies)
    answer = [
        ("a", ab_s[:, :3], ab_b[:, :3]),
        ("b", ab_s[:, 3:], ab_b[:, 3:]),
        ("c", c_s, c_b),
    ]
    check(watched(model, x).sources(), {"root": answer})


# -- what holds of all of them ------------------------------------------------------------------------


def nets() -> dict[str, Callable[[torch.dtype], tuple[nn.Module, Tensor]]]:
    def mine(dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        return DenseNet(10).to(dtype), torch.randn(2, 1, 8, 8, dtype=dtype)

    def back(dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
        torch.manual_seed(0)
        return Backwards(nested=False).to(dtype), torch.randn(2, 3, 6, 6, dtype=dtype)

    return {
        "torchvision": lambda dtype: torchvision_net(dtype=dtype),
        "frugal": lambda dtype: torchvision_net(frugal=True, dtype=dtype),
        "built-in": mine,
        "list": lambda dtype: made("dense", dtype),
        "backwards": back,
    }


@pytest.mark.parametrize("name", nets())
def test_sources_add_up_to_their_skip(name: str) -> None:
    ledger = watched(*nets()[name](torch.float64))
    by_skip = {r.skip: r for r in ledger.rows()}
    groups: dict[str, list[SourceRow]] = {}
    for row in ledger.sources():
        groups.setdefault(row.skip, []).append(row)
    assert groups
    for skip, rows in groups.items():
        for column in ("skip_norm", "branch_norm", "total_norm"):
            whole = math.hypot(*(getattr(r, column) for r in rows))
            assert whole == pytest.approx(getattr(by_skip[skip], column), rel=1e-12)
        dot = sum(r.cosine * r.skip_norm * r.branch_norm for r in rows)
        assert dot == pytest.approx(
            by_skip[skip].cosine * by_skip[skip].skip_norm * by_skip[skip].branch_norm, rel=1e-9, abs=1e-13
        )
        assert sum(r.share for r in rows) == pytest.approx(1)


def test_float32_of_wide_images_against_the_float32_gradient() -> None:
    torch.manual_seed(0)
    model, x = Backwards(nested=True), torch.randn(4, 3, 96, 96)
    answer = backwards_answers(model, x)["root#4"]
    rows = [r for r in watched(model, x).sources() if r.skip == "root#4"]
    for row, (_, s, b) in zip(rows, answer, strict=True):
        assert row.skip_norm == pytest.approx(s.double().norm().item(), rel=1e-6)
        assert row.branch_norm == pytest.approx(b.double().norm().item(), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchvision", "backwards"])
def test_compiled_as_in_eager_mode(name: str) -> None:
    model, x = nets()[name](torch.float64)
    eager = watched(model, x).sources()
    model, x = nets()[name](torch.float64)
    torch._dynamo.reset()
    compiled = watched(torch.compile(model, fullgraph=True, backend="aot_eager"), x).sources()
    assert [(r.skip, r.source) for r in compiled] == [(r.skip, r.source) for r in eager]
    for a, b in zip(compiled, eager, strict=True):
        for column in ("skip_norm", "branch_norm", "total_norm", "share"):
            assert getattr(a, column) == pytest.approx(getattr(b, column), rel=1e-9), (a.skip, a.source, column)


COMPILED = pytest.param("built-in", True, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "compiled"), [*((name, False) for name in nets()), COMPILED])
def test_weights_are_bitwise_those_of_an_unwatched_training(name: str, compiled: bool) -> None:
    def run(on: bool) -> dict[str, Tensor]:
        model, x = nets()[name](torch.float32)
        called = model
        if compiled:
            torch._dynamo.reset()
            called = torch.compile(model, fullgraph=True, backend="aot_eager")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        with sg.watch(called, optimizer=optimizer, sources=True) as ledger:
            if not on:
                ledger.close()
            for _ in range(5 if compiled else 20):
                optimizer.zero_grad()
                called(x).pow(2).sum().backward()
                optimizer.step()
        assert bool(ledger.sources()) == on
        return model.state_dict()

    same_bits(name, run)


def test_gradients_too_small_to_square_are_measured_beside_larger_ones() -> None:
    torch.manual_seed(0)
    model, x = Backwards(nested=True), torch.randn(2, 3, 6, 6)
    pull = torch.tensor([1.0, 1.0, 1e-25, 1e-25, 1.0, 1.0, 1.0, 1.0, 1e-25, 1e-25, 1e-25, 1e-25, 1e-25])
    rows = []
    for factor in (1.0, 1e-25):
        with sg.watch(model, sources=True) as ledger:
            ((model(x) * pull).sum() * factor).backward()
        rows.append([r for r in ledger.sources() if r.skip == "root#4"])
    for large, small in zip(*rows, strict=True):
        assert small.branch_norm == pytest.approx(1e-25 * large.branch_norm, rel=1e-5)
        assert small.share == pytest.approx(large.share, rel=1e-4)
    # At the last merge the shortcut gives each source what was pulled at it.
    by_name = {r.source: r for r in rows[0]}
    assert by_name["layers.2"].skip_norm < 1e-20 < 1e-3 < by_name["layers.1"].skip_norm
    assert by_name["stem"].skip_norm == pytest.approx(1e-25 * (5 * 2 / 36) ** 0.5, rel=1e-5)


def test_a_scaled_loss_is_unscaled() -> None:
    class Scaler:
        def get_scale(self) -> float:
            return 1024.0

    model, x = torchvision_net()
    plain = watched(model, x).sources()
    model, x = torchvision_net()
    with sg.watch(model, sources=True).scaled_by(Scaler()) as ledger:
        (objective(model(x)) * 1024).backward()
    for a, b in zip(ledger.sources(), plain, strict=True):
        assert (a.total_norm, a.cosine, a.share) == pytest.approx((b.total_norm, b.cosine, b.share), rel=1e-9)


def test_steps_and_accumulation_are_numbered_as_the_skip_rows_are() -> None:
    model, x = made("dense")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with sg.watch(model, optimizer=optimizer, sources=True) as ledger:
        for _ in range(2):
            for _ in range(2):
                objective(model(x)).backward()
            optimizer.step()
    assert list(dict.fromkeys((r.step, r.micro) for r in ledger.sources())) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    frame = ledger.source_frame()
    assert frame.height == len(ledger.sources())
    assert frame.columns == list(SourceRow.__dataclass_fields__)


def test_off_by_default_and_of_concatenations_of_several_only() -> None:
    model, x = made("dense")
    with sg.watch(model) as ledger:
        objective(model(x)).backward()
    assert ledger.sources() == []
    assert all(not kind.plan.groups for kind in ledger._forwards._kinds.values())
    model, x = made("unet")  # every fork is one tensor
    assert watched(model, x).sources() == []
    with pytest.raises(BadInput, match="sources='yes'"):
        sg.watch(model, sources="yes")  # type: ignore[arg-type]


class Tokens(nn.Module):
    """Tokens are added to tokens: the concatenated dimension has no fixed size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x.relu(), self.a(x)], 1)
        return torch.cat([x, torch.tanh(self.b(x))], 1)


def test_another_size_is_measured_like_the_first() -> None:
    model = Tokens()
    graph = sg.find(model, torch.randn(2, 5, 4))
    with sg.watch(model, graph, sources=True) as ledger:
        model(torch.randn(2, 5, 4)).sum().backward()
        assert {r.skip for r in ledger.sources()} == {"root"}
        model(torch.randn(2, 7, 4)).sum().backward()
    assert len(ledger.sources()) == 4
    assert len(ledger.rows()) == 2
    assert [s.width for s in ledger.sources() if s.number == 0] == [5, 7]
    assert ledger.notes == []


# -- summed up --------------------------------------------------------------------------------------------


def row(step: int, skip: str, source: str, number: int, s: float, b: float, total: float, width: int = 4) -> SourceRow:
    return SourceRow(step, 0, skip, source, number, width, s, b, total, 0.0, math.nan)


ROWS = [
    row(0, "m1", "stem", 0, 1.0, 3.0, 1.0, 12),
    row(0, "m1", "<f1>", 1, 1.0, 4.0, 1.0),
    row(0, "m2", "stem", 0, 2.0, 1.0, 5.0, 12),
    row(0, "m2", "<f1>", 1, 0.0, 1.0, 0.0),
    row(0, "m2", "f2", 2, 0.0, 1.0, 0.0, 8),
    row(1, "m1", "stem", 0, 1.0, 0.0, 1.0, 12),
    row(1, "m1", "<f1>", 1, 1.0, 1e-30, 3.0),
]


def test_shares_by_source_and_merge() -> None:
    shares = source_shares(ROWS)
    assert shares.sources == ("stem", "<f1>", "f2")
    assert shares.merges == ("m1", "m2")
    # Each backward counts alike: (9/25 + 0) / 2.
    assert shares.shares[0] == pytest.approx((0.18, 1 / 3))
    assert shares.shares[1] == pytest.approx((0.82, 1 / 3))
    assert shares.shares[2][0] is None
    assert shares.shares[2][1] == pytest.approx(1 / 3)
    assert shares.even[0] == pytest.approx((0.75, 0.5))
    assert shares.backwards == 2
    assert shares.by_source()["stem"] == pytest.approx((0.18 + 1 / 3) / 2)
    assert shares.against_even()["stem"] == pytest.approx((0.18 + 1 / 3) / 1.25)
    assert source_shares(ROWS, "total").shares[0] == pytest.approx(((0.5 + 0.1) / 2, 1.0))
    assert source_shares(ROWS, "skip").shares[0] == pytest.approx((0.5, 1.0))


def test_shares_as_text_and_picture() -> None:
    shares = source_shares(ROWS)
    text = str(shares)
    assert "18.0%" in text
    assert "82.0%" in text
    tree = ElementTree.fromstring(shares.svg())  # well-formed, with names from outside escaped
    spots = [e for e in tree.iter() if e.get("class") == "spot"]
    assert len(spots) == 5
    assert "<f1> at m1: 82.00 %, even spread 25.00 %" in [
        e.findtext("{http://www.w3.org/2000/svg}title") for e in spots
    ]
    assert "<f1>" not in shares._repr_html_()
    assert "&lt;f1&gt;" in shares._repr_html_()


def test_zeros_and_infinities_have_no_shares_and_are_counted() -> None:
    dead = [row(2, "m1", "stem", 0, 0.0, 0.0, 0.0), row(2, "m1", "<f1>", 1, 0.0, 0.0, 0.0)]
    shares = source_shares([*ROWS, *dead])
    assert shares.left_out == 2
    assert "2 rows left out" in shares.sentence()
    assert shares.shares == source_shares(ROWS).shares
    assert source_shares(dead).shares == ((None,), (None,))
    assert math.isnan(source_shares(dead).by_source()["stem"])


def test_bad_requests_are_refused() -> None:
    with pytest.raises(BadInput, match="sources=True"):
        source_shares([])
    with pytest.raises(BadInput, match="branch, skip, total"):
        source_shares(ROWS, "gradient")
