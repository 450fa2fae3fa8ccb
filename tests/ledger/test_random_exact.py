"""The ledger on random nets, against the same nets with every fork written out by the one who planted it.

A failure prints the spec: ``check(Net(...))`` with it is a test of its own. Thousands of examples, other ones each
time::

    SKIPGRAD_EXAMPLES=2000 pytest tests/ledger/test_random_exact.py --hypothesis-seed=7
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, reject, settings
from torch import Tensor

import skipgrad as sg
from finder.planted import Chain, Plain, Repeat, Spec
from finder.planted_draws import Net, nets
from finder.planted_ops import Ctx
from finder.planted_others import GATES, SPLITS, Dense, Gate, Index, Split
from finder.planted_residual import ADDS_OF_MANY, ADDS_OF_TOKENS, ADDS_OF_TWO, CATS, SHORTCUTS, Residual
from ledger.forked import Forks, answers
from ledger.replay import brute

MANY = int(os.environ.get("SKIPGRAD_EXAMPLES", "0"))


def some(examples: int) -> Any:
    """The same examples each time; with SKIPGRAD_EXAMPLES as many as it says, and others each time."""
    return settings(
        max_examples=MANY or examples, derandomize=not MANY, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
    )  # fmt: skip


def objective(out: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return (out * weights).sum() + out.pow(2).sum()


def check(net: Net, dtype: torch.dtype = torch.float64, digits: float = 1e-10) -> int:
    """Fails unless every skip is measured, and rightly; how many there were. -1: autograd itself refuses the net."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # a merge may make an identity matrix
    try:
        return _check(net, dtype, digits)
    finally:
        torch.set_default_dtype(before)


def _check(net: Net, dtype: torch.dtype, digits: float) -> int:
    torch.manual_seed(0)
    model, x = net.module().to(dtype), torch.randn(net.shape, dtype=dtype)
    try:
        objective(model(x)).backward()
    except RuntimeError:  # an activation that saves its result, changed in place
        return -1
    torch.manual_seed(1)
    with sg.watch(model) as ledger:
        objective(model(x)).backward()
    rows = {r.skip: r for r in ledger.rows()}
    forks = Forks(net, model)
    torch.manual_seed(1)
    expected = dict(zip([p.name for p in net.planted()], answers(forks, objective(model(x))), strict=True))
    indices = {name for name, answer in expected.items() if answer is None}
    assert {n.split(":")[0] for n in ledger.notes} == indices, ledger.notes
    assert rows.keys() == expected.keys() - indices
    # Before a norm a gradient may be nothing but rounding: what it is small against counts.
    norms = ("skip_norm", "branch_norm", "out_norm")
    size = max((a[n] for a in expected.values() if a is not None for n in norms), default=0.0)
    for name, row in rows.items():
        answer = expected[name]
        assert answer is not None
        assert row.residual < digits
        for column, value in answer.items():
            least = digits if column in ("cosine", "x_rms") else digits * size / 1000
            if column == "cosine" and min(answer["skip_norm"], answer["branch_norm"]) < 1e-5 * size:
                continue  # an angle with rounding noise
            assert getattr(row, column) == pytest.approx(value, rel=digits, abs=least), (name, column)
    return len(rows)


@some(60)
@given(nets(depth=1))
def test_random_nets_to_ten_digits(net: Net) -> None:
    if check(net) < 0:
        reject()


@some(20)
@given(nets(depth=1))
def test_random_nets_in_float32(net: Net) -> None:
    torch.manual_seed(0)
    model, x = net.module(), torch.randn(net.shape)
    try:
        objective(model(x)).backward()
    except RuntimeError:
        reject()
    torch.manual_seed(1)
    with sg.watch(model) as ledger:
        objective(model(x)).backward()
    rows = {r.skip: r for r in ledger.rows()}
    # The model's own calls made again, as other ones would round otherwise.
    expected = brute(model, (x,), {}, objective, rows, seed=1)
    size = max((max(a["skip_norm"], a["branch_norm"]) for a in expected.values()), default=0.0)
    for name, answer in expected.items():
        for column in ("skip_norm", "branch_norm", "total_norm", "out_norm"):
            value = pytest.approx(answer[column], rel=1e-6, abs=1e-9 * size)
            assert getattr(rows[name], column) == value, (name, column)


IMAGE, TOKENS = (2, 8, 8, 8), (2, 6, 8)
STEM = Plain((("conv", 0), ("norm", 0), ("silu", 0)))
BRANCH = Plain((("conv", 0), ("norm", 0), ("gelu", 0), ("conv", 0)))


def whole(part: Spec, fam: str = "image", training: bool = True) -> Net:
    return Net(Ctx(fam, training), {"image": IMAGE, "tokens": TOKENS}[fam], Chain((STEM, part, STEM), "list"))


@pytest.mark.parametrize("merge", [*ADDS_OF_TWO, *ADDS_OF_TOKENS, *CATS, "many"])
def test_every_way_to_write_a_merge(merge: str) -> None:
    if merge == "many":
        made = [whole(Residual((STEM,) * 2, "identity", m, pre=pre)) for m in ADDS_OF_MANY for pre in (False, True)]
        made += [whole(Residual((STEM,) * 3, "identity", m)) for m in ("cat", "growing", "pairs")]
    else:
        # What is changed in place must not be saved by the branch's first op.
        first = Plain((("half", 0), *STEM.ops)) if merge == "method" else STEM
        inner = Chain((first, Residual((BRANCH,)), Plain((("conv", 0),))))
        made = [
            whole(Residual((b,), "identity", merge, flip), "tokens") for flip in (False, True) for b in (first, inner)
        ]
    for net in made:
        assert check(net) >= 1


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_every_shortcut(shortcut: str) -> None:
    _, _, channels, sizes = SHORTCUTS[shortcut]
    for res in sizes.split():
        for wide in channels.split():
            resize = {"same": "conv1", "down": "down", "up": "up conv"}[res]
            last = (resize, {"same": 8, "fewer": 4, "more": 16}[wide])
            branch = Plain((("conv", 0), ("norm", 0), ("silu", 0), last))
            assert check(whole(Residual((branch,), shortcut))) == 1


FORMS: dict[str, tuple[Spec, int]] = {
    **{f"gate {g}": (Gate(BRANCH, g), 1) for g in GATES},
    **{f"split {s}": (Split(Plain((("conv", 0), ("tanh", 0))), s), 1) for s in SPLITS},
    **{f"split {s} added": (Split(Plain((("conv", 0), ("tanh", 0))), s, True), 1) for s in SPLITS},
    "dense": (Dense((Plain((("conv", 4),)),) * 4), 4),
    "dense by pairs": (Dense((Plain((("conv", 4),)),) * 4, growing=False), 4),
    "dense with residuals": (Dense((Chain((STEM, Residual((BRANCH,)), Plain((("conv", 4),)))),) * 2), 4),
    "indices are refused by name": (Index(Chain((STEM, Residual((BRANCH,)), STEM))), 1),
    "reused": (Repeat(Residual((BRANCH,)), 3), 3),
    "inline": (Chain((Residual((BRANCH,)), Residual((STEM,))), "inline"), 2),
    "broadcast branch": (Residual((Plain((("global pool", 0), ("conv1", 0), ("relu", 0))),)), 1),
    "a view of a norm is changed in place": (Residual((Plain((("layer", 0), ("relu_", 0), ("conv", 0))),)), 1),
    "a fork that is a view": (Chain((Plain((("view", 0),)), Residual((BRANCH,), "view"))), 1),
    "a fork that is a part": (Chain((Plain((("chunk", 0),)), Residual((BRANCH,)))), 1),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str) -> None:
    spec, count = FORMS[form]
    assert check(whole(spec)) == count
