"""S, B, S+B and dL/dy of every form of skip, against autograd on the same net written out with separate forks."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import skipgrad as sg
from finder.nets import made

# (sources as seen by the shortcut, sources as seen by the branch, what the merge returns, x, F(x))
Parts = tuple[list[Tensor], list[Tensor], Tensor, list[Tensor], list[Tensor]]


def fork(x: Tensor, many: int = 2) -> list[Tensor]:
    return [x.clone() for _ in range(many)]


def identity(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = m.stem(x)
    s, b = fork(x)
    f = m.b(torch.relu(m.a(b)))
    y = s + f
    return m.head(y), [([s], [b], y, [x], [f])]


def projection(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = F.relu(m.stem(x))
    s, b = fork(x)
    f = m.nb(m.b(F.relu(m.na(m.a(b)))))
    y = f + m.short(s)
    return F.relu(y).mean((2, 3)), [([s], [b], y, [x], [f])]


def concat(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = m.stem(x)
    s, b = fork(x)
    f = torch.tanh(m.a(b))
    y = torch.cat([s, f], 1)
    return m.head(y), [([s], [b], y, [x], [f])]


def dense(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    groups = [[m.stem(x)]]
    parts: list[Parts] = []
    pending: tuple[list[Tensor], Tensor, list[Tensor]] | None = None
    for layer in [*m.layers, None]:
        group = [*groups[-1]]
        # At each concatenation every source is used through a clone of its own.
        used = [t.clone() for t in group]
        y = torch.cat(used, 1)
        if pending is not None:
            parts.append((used[:-1], pending[0], y, pending[2], [group[-1]]))
        if layer is None:
            return m.head(y), parts
        f = torch.tanh(layer(y))
        pending = (used, f, group)
        groups.append([*group, f])
    raise AssertionError


def unet(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    a = torch.relu(m.d0(x))
    a_s, a_b = fork(a)
    b = torch.relu(m.d1(a_b))
    b_s, b_b = fork(b)
    c = torch.relu(m.mid(b_b))
    up = F.interpolate(c, scale_factor=2)
    y1 = torch.cat([up, b_s], 1)
    u = torch.relu(m.u1(y1))
    up0 = F.interpolate(u, scale_factor=2)
    y0 = torch.cat([up0, a_s], 1)
    return m.u0(y0), [([b_s], [b_b], y1, [b], [up]), ([a_s], [a_b], y0, [a], [up0])]


def parallel(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = m.stem(x)
    s, b = fork(x)
    n = m.norm(b)
    f1, f2 = torch.tanh(m.a(n)), torch.tanh(m.m(n))
    y = s + f1 + f2
    return y, [([s], [b], y, [x], [f1, f2])]


def nested(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = m.stem(x)
    s1, b1, s3 = fork(x, 3)
    f1 = torch.tanh(m.a(b1))
    y = s1 + f1
    s2, b2 = fork(y)
    f2 = torch.tanh(m.b(b2))
    y2 = s2 + f2
    f3 = torch.tanh(m.c(torch.relu(y2)))
    y3 = s3 + f3
    # The long skip's branch holds the short skip whole: both of its paths belong to B.
    return y3, [
        ([s1], [b1], y, [x], [f1]),
        ([s2], [b2], y2, [y], [f2]),
        ([s3], [s1, b1], y3, [x], [f3]),
    ]


def in_place(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = torch.sigmoid(m.stem(x)) * 1.0
    s, b = fork(x)
    f = torch.tanh(m.f(b * 2))
    y = s + f
    return y * 3, [([s], [b], y, [x], [f])]


def split(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    x = m.stem(x)
    s, b = fork(x)
    f = torch.relu(m.f(b[:, 3:]))
    y = torch.cat((s[:, :3], f), 1)
    return y, [([s], [b], y, [x], [f])]


def post_encoder(m: nn.Module, x: Tensor) -> tuple[Tensor, list[Parts]]:
    layer = m.layers[0].eval()
    x = m.embed(x)
    s, b = fork(x)
    f = layer.self_attn(b, b, b, need_weights=False)[0]
    y = s + f
    z = layer.norm1(y)
    s2, b2 = fork(z)
    f2 = layer.linear2(torch.relu(layer.linear1(b2)))
    y2 = s2 + f2
    return layer.norm2(y2), [([s], [b], y, [x], [f]), ([s2], [b2], y2, [z], [f2])]


REFERENCES: dict[str, Callable[[nn.Module, Tensor], tuple[Tensor, list[Parts]]]] = {
    "identity": identity,
    "projection": projection,
    "concat": concat,
    "dense": dense,
    "unet": unet,
    "parallel": parallel,
    "nested": nested,
    "in place": in_place,
    "split": split,
    "post encoder": post_encoder,
}


def objective(out: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return (out * weights).sum() + out.pow(2).sum()


def brute(name: str, dtype: torch.dtype) -> list[dict[str, float]]:
    model, x = made(name, dtype)
    out, skips = REFERENCES[name](model, x)
    loss = objective(out)
    answers = []
    for shorts, branches, y, xs, fs in skips:
        wanted = [*shorts, *branches, y]
        grads = torch.autograd.grad(loss, wanted, retain_graph=True)
        k = len(shorts)
        s = torch.cat([g.flatten() for g in grads[:k]])
        b = torch.cat([g.flatten() for g in grads[k:-1]]) if len(branches) == k else sum(grads[k:-1]).flatten()
        whole = torch.cat([x.flatten() for x in xs])
        answers.append(
            {
                "skip_norm": s.norm().item(),
                "branch_norm": b.norm().item(),
                "total_norm": (s + b).norm().item(),
                "out_norm": grads[-1].norm().item(),
                "cosine": (s @ b / (s.norm() * b.norm())).item(),
                "gain": ((s + b).norm() / grads[-1].norm()).item(),
                "x_rms": whole.pow(2).mean().sqrt().item(),
                "branch_rms": math.sqrt(sum(f.pow(2).mean().item() for f in fs)),
            }
        )
    return answers


def measured(name: str, dtype: torch.dtype, wrap: Callable[[nn.Module], nn.Module] = lambda m: m) -> list[sg.Run]:
    model, x = made(name, dtype)
    model.eval() if "encoder" in name else model.train()  # no dropout in what is compared
    with sg.watch(wrap(model)) as ledger:
        called = ledger._user_model
        objective(called(x)).backward()
    assert ledger.notes == []
    return ledger.rows()


@pytest.mark.parametrize("name", REFERENCES)
def test_float64_to_ten_digits(name: str) -> None:
    rows, answers = measured(name, torch.float64), brute(name, torch.float64)
    assert len(rows) == len(answers)
    for row, answer in zip(rows, answers, strict=True):
        for column, value in answer.items():
            assert getattr(row, column) == pytest.approx(value, rel=1e-10, abs=1e-13), (row.skip, column)
        assert row.residual < 1e-13


@pytest.mark.parametrize("name", REFERENCES)
def test_float32_against_the_float32_gradient(name: str) -> None:
    for row, answer in zip(measured(name, torch.float32), brute(name, torch.float32), strict=True):
        for column in ("skip_norm", "branch_norm", "total_norm", "out_norm"):
            assert getattr(row, column) == pytest.approx(answer[column], rel=1e-6), (row.skip, column)
        assert row.residual < 1e-5


@pytest.mark.parametrize("name", ["identity", "projection", "dense", "unet", "nested", "encoder", "post encoder"])
def test_compiled_as_in_eager_mode(name: str) -> None:
    backend = "inductor" if name in ("nested", "encoder") else "aot_eager"  # the latter is quicker
    torch._dynamo.reset()
    eager = measured(name, torch.float64)
    torch._dynamo.reset()
    compiled = measured(name, torch.float64, lambda m: torch.compile(m, fullgraph=True, backend=backend))
    assert [r.skip for r in compiled] == [r.skip for r in eager]
    for a, b in zip(compiled, eager, strict=True):
        for column in ("skip_norm", "branch_norm", "total_norm", "out_norm", "x_rms", "branch_rms"):
            assert getattr(a, column) == pytest.approx(getattr(b, column), rel=1e-9), (a.skip, column)


def test_a_compiled_language_model_keeps_its_graph_and_its_figures() -> None:
    tf = pytest.importorskip("transformers")
    config = tf.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    model = tf.GPT2LMHeadModel(config).eval()
    ids = torch.randint(0, 50, (2, 16))
    answers = []
    for wrap in (lambda m: m, lambda m: torch.compile(m, fullgraph=True)):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        called = wrap(model)
        with sg.watch(called) as ledger:
            for _ in range(3):
                called(input_ids=ids).logits.pow(2).sum().backward()
        assert ledger.notes == []
        answers.append(ledger.rows())
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for a, b in zip(*answers, strict=True):
        assert (a.step, a.skip) == (b.step, b.skip)
        assert a.skip_norm == pytest.approx(b.skip_norm, rel=1e-5)
        assert a.branch_norm == pytest.approx(b.branch_norm, rel=1e-5)


def test_a_gradient_too_small_to_square_is_still_measured() -> None:
    model, x = made("identity", torch.float32)
    with sg.watch(model) as ledger:
        (objective(model(x)) * 1e-25).backward()
    row = ledger.rows()[0]
    assert all(0 < r.out_grad_norm < 1e-20 for r in ledger.layers())
    with sg.watch(model) as ledger:
        objective(model(x)).backward()
    assert row.skip_norm == pytest.approx(1e-25 * ledger.rows()[0].skip_norm, rel=1e-5)
    assert row.cosine == pytest.approx(ledger.rows()[0].cosine, rel=1e-4)
