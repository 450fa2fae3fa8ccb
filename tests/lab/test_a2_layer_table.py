import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from skipgrad.lab import run_claim
from skipgrad.lab.claims import a2_layer_table as a2
from skipgrad.probes.table import GradientTable, gradient_table
from skipgrad.probes.table.kinds import norms

NET = {"γ/σ error at its first layer": 0.5}


def test_the_claim_holds_and_is_not_idle():
    verdict = run_claim("A2", seeds=[0, 1])
    assert verdict.state == "reproduced"
    for figure in verdict.figures:
        assert figure.values["layers"] == 24
        # The claim's own bound is asked above, and `test_the_criterion` shows it fail. How far below it the errors are
        # is the processor's: at most 3.6e-16 over twelve seeds with AVX2 and with SSE here, above 1e-14 elsewhere.
        assert 0 < max(figure.values[name] for name in a2.FORMULAS) <= a2.BOUND
        assert figure.values["γ/σ error in evaluation"] <= a2.BOUND
        assert figure.values["least γ/σ error in training"] > 0.05
        assert figure.values["γ/σ error at its first layer"] > 0.1


def test_the_layers_are_of_every_sort():
    drawn = [a2.drawn_layers(seed) for seed in range(3)]
    assert len({str(layers) for layers in drawn}) == 3
    convs = [layer for layers in drawn for name, layer in layers.items() if name.startswith("convolution")]
    for attribute in ("groups", "stride", "padding", "dilation", "padding_mode", "kernel_size"):
        assert len({str(getattr(conv, attribute)) for conv in convs}) > 1, attribute
    batch_norms = [layer for layers in drawn for layer in layers.values() if isinstance(layer, a2.NORMS)]
    assert all(not torch.all(norm.running_var == 1) for norm in batch_norms)
    assert {type(norm) for norm in batch_norms} == set(a2.NORMS)


def changed(table: GradientTable, kind: str, mode: str, **values: float) -> GradientTable:
    rows = [replace(r, **values) if (r.kind, r.mode) == (kind, mode) else r for r in table]
    return replace(table, rows=tuple(rows))


def test_the_criterion():
    table = gradient_table(a2.drawn_layers(0))
    assert a2.judge({**a2.errors_of(table), **NET})
    for kind, mode in (("convolution", "both"), ("skip around a layer", "both")):
        assert not a2.judge({**a2.errors_of(changed(table, kind, mode, error=1e-11)), **NET})
    for mode in ("training", "evaluation"):
        assert not a2.judge({**a2.errors_of(changed(table, "batch norm", mode, error=1e-11)), **NET})
    assert not a2.judge({**a2.errors_of(changed(table, "batch norm", "evaluation", popular_error=1e-11)), **NET})
    assert not a2.judge({**a2.errors_of(changed(table, "batch norm", "training", popular_error=0.009)), **NET})


def test_a_formula_without_the_term_through_the_mean_is_caught(monkeypatch):
    monkeypatch.setattr(a2, "in_a_net", lambda seed: NET)
    whole = norms.BatchNorm.parts
    monkeypatch.setattr(
        norms.BatchNorm,
        "parts",
        lambda self, *a: tuple(p for p in whole(self, *a) if p.path != "through the mean"),
    )
    verdict = run_claim("A2", seeds=[0])
    assert verdict.state == "not reproduced"
    assert verdict.figures[0].values["training batch norm error"] > 0.01


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_a_frozen_norm_goes_forward_as_in_training_and_backward_by_the_popular_formula(make):
    torch.manual_seed(0)
    norm = make(3).double()
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    (twin,) = a2.frozen(nn.Sequential(norm)).children()
    assert isinstance(twin, a2.Frozen)
    row = gradient_table({"norm": norm}).row("norm", "training")
    x = row.x.clone().requires_grad_()
    y = twin(x)
    torch.testing.assert_close(y, norm(row.x))
    (grad,) = torch.autograd.grad(y, x, row.grad_output)
    torch.testing.assert_close(grad, row.by_popular)


def test_in_a_net_every_norm_counts():
    figures = a2.in_a_net(0)
    assert 0.005 < figures["γ/σ error at a norm of ResNet-20, median"] < 0.2
    # Some 2 % a norm, and more after all nineteen of them.
    assert figures["γ/σ error at its first layer"] > 5 * figures["γ/σ error at a norm of ResNet-20, median"]
    assert all(math.isfinite(v) for v in figures.values())
