from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import ModelError, RemedyRefused, SkipGraph, Suggestion
from skipgrad.remedies import remedy
from skipgrad.remedies.bridges import projection

ADD = remedy("add-skips")


def by_hand(model: cases.Plain, x: torch.Tensor, shortcut: nn.Module) -> torch.Tensor:
    """The residual net the edit should make of `cases.Plain`, written out."""
    # .forward: the modules without the hooks that hang on them
    m = {name: module.forward for name, module in model.named_children()}
    x = torch.relu(m["stem"](x))
    x = torch.relu(m["bn2"](m["conv2"](torch.relu(m["bn1"](m["conv1"](x))))) + x)
    x = torch.relu(m["bn4"](m["conv4"](torch.relu(m["bn3"](m["conv3"](x))))) + shortcut(x))
    return m["head"](x.mean((2, 3)))


def edited(seed: int = 0):
    model, x, graph = cases.plain(seed)
    applied = ADD.plan(graph).apply(model)
    (shortcut,) = model.skipgrad_shortcuts.values()
    return model, x, applied, shortcut


def test_it_is_the_net_one_would_write_and_has_its_gradients():
    model, x, applied, shortcut = edited()
    assert [e.where for e in applied.plan.edits] == ["bn2", "bn4"]
    assert torch.equal(model(x), by_hand(model, x, shortcut))
    model(x).square().mean().backward()
    got = {k: p.grad.clone() for k, p in model.named_parameters()}
    model.zero_grad()
    by_hand(model, x, shortcut).square().mean().backward()
    assert shortcut.weight.grad.any()
    for name, p in model.named_parameters():
        assert torch.equal(got[name], p.grad), name
    assert applied.verify(x).ok


def test_find_sees_the_added_skips():
    model, x, _applied, _ = edited()
    graph = sg.find(model, x)
    assert [(s.kind, s.shortcut, s.span, s.trunk) for s in graph] == [
        ("add", "identity", 2, ()),
        ("add", "projection", 2, ("relu",)),
    ]
    assert [s.branches[0][-1] for s in graph] == ["bn2", "bn4"]
    # and they can be treated like any other
    with remedy("zero-init").plan(graph).apply(model) as zeroed:
        assert zeroed.verify(x).ok


@pytest.mark.slow
@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiled_after_the_edit_without_a_graph_break(fullgraph: bool):
    model, x, applied, shortcut = edited()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=fullgraph)
    out = compiled(x)
    torch.testing.assert_close(out, by_hand(model, x, shortcut))
    out.square().mean().backward()
    assert shortcut.weight.grad.any()
    assert all(b._x is None for b in applied.bridges)
    applied.undo()
    torch.testing.assert_close(compiled(x), model(x))


def test_compiled_code_of_a_plain_twin_is_not_used_for_the_edited_net():
    twin, x, _ = cases.plain()
    torch.compile(twin, backend="aot_eager")(x)
    model, x, applied, shortcut = edited()
    compiled = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(compiled(x), by_hand(model, x, shortcut))
    applied.undo()
    assert [type(m) for m in model.modules()] == [type(m) for m in twin.modules()]


@pytest.mark.slow
def test_a_net_compiled_before_is_compiled_again():
    model, x, graph = cases.plain()
    compiled = torch.compile(model, backend="aot_eager")
    plain = compiled(x).detach()
    applied = ADD.plan(graph).apply(compiled)
    (shortcut,) = model.skipgrad_shortcuts.values()
    torch.testing.assert_close(compiled(x), by_hand(model, x, shortcut))
    applied.undo()
    torch.testing.assert_close(compiled(x).detach(), plain)


def test_parameters_are_saved_trained_and_drawn_from_torchs_generator():
    model, x, applied, shortcut = edited()
    key = next(k for k in model.state_dict() if k.startswith("skipgrad_shortcuts."))
    assert key == "skipgrad_shortcuts.s1_bn4.weight"
    again = edited()[3]
    assert torch.equal(shortcut.weight, again.weight)
    assert shortcut.stride == (2, 2)
    before = shortcut.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters())
    applied.attach(optimizer)
    assert len(optimizer.param_groups) == 1  # it has them already
    model(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(before, shortcut.weight)


def test_an_optimizer_built_before_gets_the_new_parameters_and_loses_them():
    model, x, graph = cases.plain()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    applied = ADD.plan(graph).apply(model, optimizer)
    assert len(optimizer.param_groups) == 2
    (shortcut,) = model.skipgrad_shortcuts.values()
    model(x).square().mean().backward()
    optimizer.step()
    assert shortcut.weight in optimizer.state
    applied.undo()
    assert len(optimizer.param_groups) == 1
    assert shortcut.weight not in optimizer.state


def test_double_precision_and_training_flag_are_the_neighbours():
    model, x, graph = cases.plain()
    model.double().eval()
    with ADD.plan(graph).apply(model) as applied:
        (shortcut,) = model.skipgrad_shortcuts.values()
        assert shortcut.weight.dtype == torch.float64
        assert not shortcut.training
        assert applied.verify(x.double()).ok


def test_no_tensor_is_held_after_a_forward_nor_after_a_failing_one():
    model, x, applied, shortcut = edited()
    model(x)
    assert all(b._x is None for b in applied.bridges)
    expected = by_hand(model.eval(), x, shortcut)
    broken = model.conv2.forward
    model.conv2.forward = lambda _x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model(x)
    assert all(b._x is None for b in applied.bridges)
    model.conv2.forward = broken
    assert torch.equal(model(x), expected)


def test_parts_run_alone_and_other_shapes_say_what_is_wrong():
    model, x, applied, _ = edited()
    with pytest.raises(ModelError, match="without one of 'conv1' before it"):
        model.bn2(torch.zeros(2, 8, 4, 4))
    applied.undo()
    model.bn2(torch.zeros(2, 8, 4, 4))
    model, x, graph = cases.plain()
    with ADD.plan(graph).apply(model):
        model.conv4.stride = (2, 2)
        with pytest.raises(ModelError, match="shape"):
            model(x)


def test_a_copy_of_the_model_has_bridges_of_its_own():
    model, x, applied, shortcut = edited()
    twin = copy.deepcopy(model)
    (other,) = twin.skipgrad_shortcuts.values()
    with torch.no_grad():
        other.weight.zero_()
    assert torch.equal(twin(x), by_hand(twin, x, other))
    assert torch.equal(model(x), by_hand(model, x, shortcut))
    applied.undo()
    assert cases.hooks(model) == 0
    assert torch.equal(twin(x), by_hand(twin, x, other))


def test_a_sequential_and_linear_layers():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)]
    model, x = nn.Sequential(*layers), torch.randn(3, 6)
    graph = sg.find(model, x)
    before = cases.state(model)
    with ADD.plan(graph).apply(model) as applied:
        assert applied.verify(x).ok
        assert len(sg.find(model, x)) == len(applied.plan.edits) > 0
        assert any(b.shortcut is not None for b in applied.bridges)
    assert cases.same(before, cases.state(model))


def test_pasted_lines_build_the_same_net():
    model, x, graph = cases.plain()
    plan = ADD.plan(graph)
    twin = copy.deepcopy(model)
    torch.manual_seed(5)
    plan.apply(model)
    exec(plan.lines, {"model": twin})
    with torch.no_grad():
        for a, b in zip(model.skipgrad_shortcuts.parameters(), twin.skipgrad_shortcuts.parameters(), strict=True):
            b.copy_(a)
    assert torch.equal(model(x), twin(x))


@pytest.mark.parametrize(
    ("kind", "fork", "merge", "expected"),
    [
        ("conv2d", (2, 8, 9, 9), (2, 16, 5, 5), ("Conv2d", (2, 2))),
        ("conv2d", (2, 8, 8, 8), (2, 8, 8, 4), ("Conv2d", (1, 2))),
        ("conv1d", (2, 8, 12), (2, 8, 4), ("Conv1d", (3,))),
        ("conv3d", (2, 8, 4, 4, 4), (2, 9, 4, 4, 4), ("Conv3d", (1, 1, 1))),
        ("linear", (2, 7, 8), (2, 7, 16), ("Linear", None)),
        ("linear", (2, 7, 8), (2, 5, 8), None),
        ("conv2d", (2, 8, 8, 8), (2, 8, 16, 16), None),
        ("conv2d", (2, 8, 8, 8), (2, 8, 6, 6), None),
        ("conv2d", (2, 8, 8, 8), (2, 8), None),
    ],
)
def test_projection_leads_from_shape_to_shape(kind, fork, merge, expected):
    made = projection(kind, fork, merge)
    if expected is None:
        assert made is None
        return
    name, arguments = made
    assert (name, arguments.get("stride")) == expected
    assert getattr(nn, name)(**arguments)(torch.zeros(fork)).shape == merge


def test_refusals():
    model, x, graph = cases.plain()
    impossible = Suggestion("a", "b", 2, (2, 8, 8, 8), (2, 8, 6, 6), "projection")
    with pytest.raises(RemedyRefused, match="no strided 1×1 projection"):
        ADD.plan(SkipGraph((), suggestions=(impossible,)))
    with pytest.raises(RemedyRefused, match="wrap the model afterwards"):
        ADD.plan(graph).apply(nn.DataParallel(model))
    residual, _, graph = cases.residual(depth=1)
    assert len(graph) == 1
    if not graph.suggestions:
        with pytest.raises(RemedyRefused, match="no run of layers without one"):
            ADD.plan(graph)
    assert x.shape[0] == 4
    assert residual.head is not None
