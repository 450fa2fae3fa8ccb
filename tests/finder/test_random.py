"""`find` on random nets: exactly the skips that were planted, no more and no fewer, each in full.

The nets are drawn by `planted_draws` from the language of `planted`. A failure prints the spec: ``check(Net(...))``
with it is a test of its own. Thousands of examples, other ones each time::

    SKIPGRAD_EXAMPLES=5000 pytest tests/finder/test_random.py -k planted --hypothesis-seed=7
"""

from __future__ import annotations

import copy
import os
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor, nn

import skipgrad as sg
from finder.planted import Chain, Plain, Planted, Repeat, Spec
from finder.planted_draws import DOWN, UP, Net, nets
from finder.planted_ops import KINDS, Ctx
from finder.planted_others import DECOYS, GATES, SPLITS, Decoy, Dense, Gate, Index, Split
from finder.planted_residual import ADDS_OF_MANY, ADDS_OF_TOKENS, ADDS_OF_TWO, CATS, SHORTCUTS, Residual
from skipgrad.finder import find_in_call

MANY = int(os.environ.get("SKIPGRAD_EXAMPLES", "0"))
TOO_LARGE = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
]


def some(examples: int) -> Any:
    """The same examples each time; with SKIPGRAD_EXAMPLES as many as it says, and others each time."""
    return settings(
        max_examples=MANY or examples, derandomize=not MANY, deadline=None, database=None, print_blob=False,
        suppress_health_check=TOO_LARGE,
    )  # fmt: skip


def on_meta(net: Net) -> tuple[nn.Module, Tensor]:
    with torch.device("meta"):
        return net.module(), torch.zeros(net.shape)


def said(graph: sg.SkipGraph) -> list[dict[str, Any]]:
    names = [f.name for f in fields(Planted)]
    return [_sorted({name: getattr(skip, name) for name in names}) for skip in graph.skips]


def _sorted(row: dict[str, Any]) -> dict[str, Any]:
    # In which order the branches of one merge are listed is nowhere promised.
    return {**row, "branches": sorted(row["branches"])}


def kinds_and_spans(graph: sg.SkipGraph) -> list[tuple[Any, ...]]:
    return [(s.kind, s.span, s.fan_in, s.long) for s in graph.skips]


def check(net: Net) -> sg.SkipGraph:
    """Fails unless `find` returns what was planted."""
    graph = sg.find(*on_meta(net))
    assert said(graph) == [_sorted(asdict(p)) for p in net.planted()]
    assert graph.unknown == ()
    assert graph.how == "meta"
    return graph


@some(150)
@given(nets())
def test_exactly_what_was_planted_is_found(net: Net) -> None:
    check(net)


# -- every form once, whatever hypothesis draws ----------------------------------------------------

IMAGE, TOKENS, SIGNAL = (2, 8, 8, 8), (2, 6, 8), (2, 8, 16)
STEM = Plain((("conv", 0), ("norm", 0), ("relu", 0)))
BRANCH = Plain((("conv", 0), ("norm", 0), ("relu_", 0), ("conv", 0), ("tanh", 0)))
TWO_LAYERS = Plain((("conv", 0), ("gelu", 0), ("conv", 0)))


def whole(part: Spec, fam: str = "image", training: bool = True) -> Net:
    shape = {"image": IMAGE, "tokens": TOKENS, "signal": SIGNAL}[fam]
    return Net(Ctx(fam, training), shape, Chain((STEM, part, STEM), "list"))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("merge", [*ADDS_OF_TWO, *ADDS_OF_TOKENS, *CATS])
def test_every_way_to_write_a_merge(merge: str, flip: bool) -> None:
    for branch in (BRANCH, Chain((TWO_LAYERS, Residual((BRANCH,)), Plain((("conv", 0),))))):
        check(whole(Residual((branch,), "identity", merge, flip), "tokens"))
    check(whole(Residual((BRANCH,), "half", "hstack", flip)))


@pytest.mark.parametrize("merge", [*ADDS_OF_MANY, "cat", "growing", "pairs"])
@pytest.mark.parametrize("count", [2, 3])
def test_several_branches(merge: str, count: int) -> None:
    for pre in (False, True):
        graph = check(whole(Residual((BRANCH,) * count, "identity", merge, pre=pre)))
        assert [s.fan_in for s in graph] == [count + 1]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_every_shortcut(shortcut: str, training: bool) -> None:
    _, weights, channels, sizes = SHORTCUTS[shortcut]
    for res in sizes.split():
        for wide in channels.split():
            resize = {"same": "conv1", "down": "down", "up": "up conv"}[res]
            out = {"same": 8, "fewer": 4, "more": 16}[wide]
            branch = Plain((("conv", 0), ("norm", 0), ("silu", 0), (resize, out)))
            assert len(weights) < 3
            check(whole(Residual((branch,), shortcut), "image", training))


@pytest.mark.parametrize("form", GATES)
def test_every_gate(form: str) -> None:
    check(whole(Gate(TWO_LAYERS, form)))
    check(whole(Residual((Chain((TWO_LAYERS, Gate(TWO_LAYERS, form, False), TWO_LAYERS)),))))


@pytest.mark.parametrize("kind", DECOYS)
def test_decoys_are_not_found(kind: str) -> None:
    count = {"equal": 0, "position": 0, "buffer": 0, "modulated": 0, "parallel add": 3, "parallel cat": 2}.get(kind, 1)
    assert len(check(whole(Decoy(kind, (BRANCH,) * count), "tokens"))) == 0
    back = Plain((("conv", 8), ("gelu", 0), ("conv", 0)))
    nested = Residual((Chain((TWO_LAYERS, Decoy(kind, (BRANCH,) * count), back)),))
    assert len(check(whole(nested, "tokens"))) == 1


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("add", [False, True])
def test_every_split(how: str, add: bool) -> None:
    check(whole(Split(Plain((("conv", 0), ("tanh", 0))), how, add)))


UNET = Residual(
    (
        Chain(
            (
                Plain((("down", 0), ("relu", 0))),
                Residual(
                    (Plain((("down pool", 0), ("conv", 0), ("relu", 0), ("up", 0), ("conv", 0), ("relu", 0))),),
                    merge="cat",
                ),
                Plain((("up conv", 8), ("relu", 0))),
            )
        ),
    ),
    merge="cat",
)  # fmt: skip
FORMS: dict[str, Spec] = {
    "dense": Dense((Plain((("conv", 4),)),) * 4),
    "dense by pairs": Dense((Plain((("conv", 4),)),) * 4, growing=False),
    "dense with residuals": Dense((Chain((TWO_LAYERS, Residual((BRANCH,)), Plain((("conv", 4),)))),) * 2),
    "u-net": UNET,
    "u-net by adds": Residual((Chain((Plain((("down", 0), ("relu", 0))), STEM, Plain((("up", 0),)))),), "projection"),
    "segnet": Index(Chain((STEM, Residual((BRANCH,)), STEM))),
    "reused": Repeat(Residual((BRANCH,)), 3),
    "reused in a branch": Residual((Chain((STEM, Repeat(Residual((BRANCH,)), 2), STEM)),), merge="sum"),
    "transformer": Chain((Residual((BRANCH,)), Residual((TWO_LAYERS,))), "inline"),
    "long around a block that ends in an add": Residual((Chain((STEM, Residual((BRANCH,)))),)),
    "broadcast branch": Residual((Plain((("global pool", 0), ("conv1", 0), ("relu", 0))),)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_nesting(form: str) -> None:
    assert len(check(whole(FORMS[form]))) >= 1


@pytest.mark.parametrize("fam", ["image", "tokens", "signal"])
def test_every_kind_of_op_passes_for_what_it_is(fam: str) -> None:
    other = {"tokens": (), "image": ("attention", "gru"), "signal": ("attention", "gru")}[fam]
    for kind in KINDS:
        if kind in other or kind in ("chunk", "global pool") or kind.startswith(("down", "up")):
            continue  # not of this family, or the shape is another afterwards
        check(whole(Residual((Plain((("conv", 0), (kind, 0), ("conv", 0))),)), fam))


@pytest.mark.parametrize("up", UP)
@pytest.mark.parametrize("down", DOWN)
def test_leaving_the_resolution_and_coming_back_is_long(down: tuple[str, str], up: tuple[str, str]) -> None:
    there, back = (tuple((k, 0) for k in kinds if k) for kinds in (down, up))
    for first, then in ((there, back), (back, there)):
        graph = check(whole(Residual((Plain((*first, ("relu", 0), *then)),))))
        assert [s.long for s in graph] == [True]
    check(whole(Residual((Plain((*there, ("relu", 0), ("conv", 0))),), "pool")))


def test_a_fork_made_by_a_split_is_the_part_that_was_used() -> None:
    half = Plain((("chunk", 0),))
    for part in (Residual((TWO_LAYERS,)), Dense((Plain((("conv", 4),)),) * 2), Gate(TWO_LAYERS)):
        check(whole(Chain((half, part), "inline")))


# -- properties ------------------------------------------------------------------------------------


def viewed(spec: Spec) -> Spec:
    """The same net with a view before every layer."""
    if isinstance(spec, Plain):
        return Plain(tuple(op for kind, out in spec.ops for op in (("view", 0), (kind, out))))
    changes = {}
    for f in fields(spec):  # type: ignore[arg-type]
        value = getattr(spec, f.name)
        if isinstance(value, Spec):
            changes[f.name] = viewed(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Spec):
            changes[f.name] = tuple(map(viewed, value))
    return replace(spec, **changes)  # type: ignore[type-var]


@some(15)
@given(nets())
def test_views_wrappers_names_mode_and_batch_change_no_kind_and_no_span(net: Net) -> None:
    base = sg.find(*on_meta(net))
    want = kinds_and_spans(base)
    model, x = on_meta(net)
    wrapped = sg.find(nn.Sequential(model), x)
    assert kinds_and_spans(wrapped) == want
    for inner, outer in zip(base.skips, wrapped.skips, strict=True):
        assert outer.name == (f"0.{inner.name}" if inner.owner else inner.name.replace("root", "0"))
        assert outer.branches == tuple(tuple(f"0.{p}" if p else "0" for p in b) for b in inner.branches)
    others = {
        "views": replace(net, spec=viewed(net.spec)),
        "names": replace(net, ctx=replace(net.ctx, prefix="other_")),
        "mode": replace(net, ctx=replace(net.ctx, training=not net.ctx.training)),
        "batch": replace(net, shape=(net.shape[0] + 3, *net.shape[1:])),
    }
    for what, other in others.items():
        assert kinds_and_spans(sg.find(*on_meta(other))) == want, what


@some(20)
@given(nets(depth=1))
def test_meta_fake_and_real_traces_give_one_graph_and_leave_no_trace(net: Net) -> None:
    torch.manual_seed(0)
    model, x = net.module(), torch.randn(net.shape)
    state, given = copy.deepcopy(model.state_dict()), x.clone()
    attributes = {name: dict(m.__dict__) for name, m in model.named_modules()}
    drawn = torch.get_rng_state()
    graphs = {how: find_in_call(model, (x,), {}, how=how) for how in ("", "foretell", "real")}
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        graphs["fake"] = sg.find(net.module(), torch.zeros(net.shape))
    assert [g.how for g in graphs.values()] == ["meta", "meta", "real", "fake"]
    for graph in graphs.values():
        assert graph.notes == ()
        assert replace(graph, how="", found=None) == replace(graphs[""], how="", found=None)
    after = model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(a, b) for a, b in zip(state.values(), after.values(), strict=True))
    assert torch.equal(x, given)
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, module in model.named_modules():
        assert module.__dict__.keys() == attributes[name].keys(), name
        assert all(module.__dict__[k] is v for k, v in attributes[name].items()), name
