"""What every remedy in the registry must do."""

from __future__ import annotations

import gc
import weakref
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

import skipgrad as sg
from remedies import cases
from skipgrad.core import MeasureError, RemedyRefused, SkipGraph, UnknownName
from skipgrad.remedies import REMEDIES, Evidence, Plan, calibrate, remedy, treat
from skipgrad.remedies.knobs import Span
from skipgrad.remedies.retrofit.design import SAME

NAMES = list(REMEDIES)
EMPTY = SkipGraph(())


def patient(name: str, dtype: torch.dtype = torch.float32):
    """A model the remedy applies to, inputs, its graph and measurements."""
    made = {
        "add-skips": cases.plain,
        "deepnorm": cases.post_norm,
        "pre-norm": cases.post_norm,
        "scalelong": cases.unet,
        "grow": cases.nine,
        "layer-drop": cases.nine,
        "value-residual": cases.attention,
    }
    usual = cases.idle if name == "prune-blocks" else cases.residual
    model, x, graph = made.get(name, usual)()
    model, x = model.to(dtype), x.to(dtype)
    measured = None if name in made else cases.brute_force(model, x, graph)
    return model, x, graph, measured


def test_what_is_registered_most_promising_first_retrofits_last():
    assert NAMES == [
        "zero-init",
        "skip-calibration",
        "add-skips",
        "gradient-scaling",
        "gradient-normalization",
        "self-tune",
        "depth-transfer",
        "agc",
        "rezero",
        "skipinit",
        "layerscale",
        "fixup",
        "branch-scale",
        "deepnorm",
        "stochastic-depth",
        "pre-norm",
        "scalelong",
        "hyper-connections",
        "prune-blocks",
        "auto",
        "grow",
        "prodigy",
        "layer-drop",
        "value-residual",
    ]
    assert sg.remedy("zero-init") is REMEDIES.get("zero-init")


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownName, match="zero-init"):
        remedy("zero_init")


@pytest.mark.parametrize("name", NAMES)
def test_plan_is_readable_frozen_data(name: str):
    _, _, graph, measured = patient(name)
    cure = remedy(name)
    plan = cure.plan(graph, measured)
    assert isinstance(plan, Plan)
    assert plan.remedy == name == cure.name
    assert cure.kind in ("model", "gradient")
    assert cure.title
    assert "arXiv:" in (type(cure).__doc__ or "")
    assert plan.edits
    for edit in plan.edits:
        assert edit.where
        assert edit.where in str(plan)
        assert edit.what in str(plan)
    with pytest.raises(FrozenInstanceError):
        plan.remedy = "another"  # type: ignore[misc]
    assert plan == cure.plan(graph, measured)


@pytest.mark.parametrize("name", NAMES)
def test_knobs_are_options_and_any_value_of_them_plans(name: str):
    _, _, graph, measured = patient(name)
    for option, knob in remedy(name).knobs.items():
        values = (knob.low, knob.high) if isinstance(knob, Span) else knob.values
        for value in values:
            assert remedy(name, **{option: value}).plan(graph, measured).edits


@pytest.mark.parametrize("name", NAMES)
def test_planning_touches_nothing(name: str):
    model, _, graph, measured = patient(name)
    before = cases.state(model)
    remedy(name).plan(graph, measured)
    assert cases.same(before, cases.state(model))
    assert cases.hooks(model) == 0


@pytest.mark.parametrize("name", NAMES)
def test_lines_are_python(name: str):
    model, _, graph, measured = patient(name)
    plan = remedy(name).plan(graph, measured)
    compile(plan.lines, name, "exec")
    with plan.apply(model) as applied:
        compile(applied.lines, name, "exec")


@pytest.mark.parametrize("name", ["zero-init", "skip-calibration"])
def test_lines_do_what_apply_does(name: str):
    model, _, graph, measured = patient(name)
    plan = remedy(name).plan(graph, measured)
    start = cases.state(model)
    with plan.apply(model) as applied:
        cured, own_lines = cases.state(model), applied.lines
    assert not cases.same(start, cured)
    for lines in (plan.lines, own_lines):
        model.load_state_dict(start)
        exec(lines, {"model": model})
        assert cases.same(cases.state(model), cured)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_undo_leaves_the_same_bits_and_no_hook(name: str, dtype: torch.dtype):
    model, x, graph, measured = patient(name, dtype)
    before, out = cases.state(model), model.eval()(x)
    ids = {k: id(p) for k, p in model.named_parameters()}
    applied = remedy(name).plan(graph, measured).apply(model)
    changed = not torch.equal(model(x), out)
    assert changed == (remedy(name).kind == "model" and applied.plan.promise != SAME)
    applied.undo()
    assert cases.same(before, cases.state(model))
    assert {k: id(p) for k, p in model.named_parameters()} == ids
    assert cases.hooks(model) == 0
    assert torch.equal(model(x), out)
    assert all(not isinstance(m, nn.ModuleDict) for m in model.modules())


@pytest.mark.parametrize("name", NAMES)
def test_applying_twice_and_undoing_twice_are_refused(name: str):
    model, _, graph, measured = patient(name)
    plan = remedy(name).plan(graph, measured)
    applied = plan.apply(model)
    with pytest.raises(RemedyRefused, match=r"in force already|has skipgrad_shortcuts already"):
        plan.apply(model)
    applied.undo()
    with pytest.raises(RemedyRefused, match="undone before"):
        applied.undo()
    plan.apply(model).undo()


@pytest.mark.parametrize("name", NAMES)
def test_a_context_ends_it_on_exceptions_too(name: str):
    model, _, graph, measured = patient(name)
    before = cases.state(model)
    with pytest.raises(ZeroDivisionError), remedy(name).plan(graph, measured).apply(model):
        _ = 1 / 0
    assert cases.same(before, cases.state(model))
    assert cases.hooks(model) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_half_way_leaves_the_model_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch):
    model, _, graph, measured = patient(name)
    before = cases.state(model)
    plan = remedy(name).plan(graph, measured)
    applied = plan.bind(plan, model)
    real = applied._do

    def fail() -> None:
        real()
        raise MemoryError("half way")

    monkeypatch.setattr(applied, "_do", fail)
    with pytest.raises(MemoryError):
        applied.start()
    assert cases.same(before, cases.state(model))
    assert cases.hooks(model) == 0
    plan.apply(model).undo()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_without_skips_and_places_is_refused_with_a_reason(name: str):
    with pytest.raises(RemedyRefused) as caught:
        remedy(name).plan(EMPTY)
    assert name in caught.value.doing
    assert caught.value.received
    assert caught.value.todo


@pytest.mark.parametrize("name", NAMES)
def test_another_model_than_the_graphs_is_refused_before_anything_is_done(name: str):
    _, _, graph, measured = patient(name)
    other = nn.Linear(2, 2)
    before = cases.state(other)
    with pytest.raises(sg.SkipgradError, match="has no such module"):
        remedy(name).plan(graph, measured).apply(other)
    assert cases.same(before, cases.state(other))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it where a graph breaks
@pytest.mark.parametrize("name", NAMES)
def test_compiled_and_checkpoint_style_wrappers_are_looked_through(name: str):
    model, x, graph, measured = patient(name)
    before = cases.state(model)
    compiled = torch.compile(model, backend="eager")
    with remedy(name).plan(graph, measured).apply(compiled) as applied:
        assert applied.model is model
        assert applied.wrappers == ("OptimizedModule",)
        assert torch.equal(compiled.eval()(x), model.eval()(x))
    assert cases.same(before, cases.state(model))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "prodigy"])  # brings its own
def test_treat_attaches_to_an_optimizer_built_afterwards(name: str, monkeypatch: pytest.MonkeyPatch):
    model, x, graph, measured = patient(name)
    before = cases.state(model)
    applied = treat(name, model, graph, measured=measured)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with applied.attach(optimizer):
        model(x).square().mean().backward()
        optimizer.step()
        held = {id(p) for g in optimizer.param_groups for p in g["params"]}
        assert {id(p) for p in model.parameters()} == held
    names = dict(model.named_parameters())
    # What the edit brought along, or set, is not what it was; all else is.
    own = {k for k in names if k in before and k not in applied.touched()}
    assert cases.same({k: before[k] for k in before if k in own}, {k: p.detach() for k, p in names.items() if k in own})
    assert len(optimizer._optimizer_step_pre_hooks) == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_keeps_no_model_alive(name: str):
    model, _, graph, measured = patient(name)
    applied = remedy(name).plan(graph, measured).apply(model)
    gone = weakref.ref(model)
    del model, applied
    gc.collect()
    assert gone() is None


def test_calibration_without_measurements_says_so():
    _, _, graph = cases.residual()
    with pytest.raises(MeasureError, match="ledger"):
        remedy("skip-calibration").plan(graph)
    with pytest.raises(sg.SkipgradError, match="measured"):
        remedy("skip-calibration").plan(graph, 3)


def test_treat_with_measure_does_three_sweeps_as_one():
    model, x, graph = cases.residual()
    before = cases.state(model)
    applied = treat("skip-calibration", model, graph, measure=lambda m: cases.brute_force(m, x, graph))
    check = applied.verify(Evidence(measured=cases.brute_force(model, x, graph)))
    assert check.ok, str(check)
    cured = cases.state(model)
    applied.undo()
    assert cases.same(before, cases.state(model))
    exec(applied.lines, {"model": model})
    assert cases.same(cured, cases.state(model))
    with pytest.raises(RemedyRefused, match="undone before"):
        applied.undo()


def test_edits_of_the_same_weights_are_undone_in_reverse_only():
    model, x, graph = cases.residual()
    first, second = calibrate(model, graph, lambda m: cases.brute_force(m, x, graph), sweeps=2)
    with pytest.raises(RemedyRefused, match="undo the later edits first"):
        first.undo()
    second.undo()
    first.undo()


def test_a_failing_measurement_takes_back_the_sweeps_before_it():
    model, x, graph = cases.residual()
    before, calls = cases.state(model), []

    def measure(m: nn.Module):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("disk")
        return cases.brute_force(m, x, graph)

    with pytest.raises(OSError, match="disk"):
        calibrate(model, graph, measure)
    assert cases.same(before, cases.state(model))
