"""Directions, grids and curvature against what is worked out in full."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import BadInput, MeasureError, OutputError
from skipgrad.probes.landscape import extreme_eigenvalues, filter_normalised, landscape
from skipgrad.probes.landscape.grid import at


def made() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 9, 4)).double()
    x, y = torch.randn(8, 1, 5, 5, dtype=torch.float64), torch.randint(4, (8,))
    model(x)
    return model.eval(), x, y


def test_a_direction_is_as_long_as_the_weights_filter_by_filter() -> None:
    model, _, _ = made()
    for ignore in ("biasbn", "none"):
        d = filter_normalised(model, 3, ignore=ignore)
        for name, w in model.named_parameters():
            if w.dim() > 1:
                torch.testing.assert_close(d[name].flatten(1).norm(dim=1), w.detach().flatten(1).norm(dim=1))
            elif ignore == "biasbn":
                assert not d[name].any()
            else:
                torch.testing.assert_close(d[name].norm(), w.detach().norm())
    assert torch.equal(filter_normalised(model, 3)["0.weight"], filter_normalised(model, 3)["0.weight"])
    assert not torch.equal(filter_normalised(model, 3)["0.weight"], filter_normalised(model, 4)["0.weight"])


def test_the_grid_is_the_loss_at_each_point_and_the_net_is_as_it_was(tmp_path: Path) -> None:
    model, x, y = made()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one, two = filter_normalised(model, 1), filter_normalised(model, 2)
    found = landscape(model, lambda run: F.cross_entropy(run(x), y), one, two, xs=(-0.5, 0.0, 1.0), ys=(0.0, 0.7))
    assert found.losses.shape == (2, 3)
    for i, b in enumerate((0.0, 0.7)):
        for j, a in enumerate((-0.5, 0.0, 1.0)):
            twin = copy.deepcopy(model)
            with torch.no_grad():
                for name, p in twin.named_parameters():
                    p.add_(a * one[name] + b * two[name])
                truth = float(F.cross_entropy(twin(x), y))
                assert found.losses[i, j] == pytest.approx(truth, rel=1e-10)
                with at(model, ((a, one), (b, two))):
                    assert float(F.cross_entropy(model(x), y)) == pytest.approx(truth, rel=1e-10)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    line = landscape(model, lambda run: F.cross_entropy(run(x), y), one, xs=(-0.5, 0.0, 1.0))
    assert line.losses.shape == (1, 3)
    np.testing.assert_allclose(line.losses[0], found.losses[0], rtol=1e-10)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    held = np.load(found.save(tmp_path / "grid.npz"))
    assert np.array_equal(held["losses"], found.losses)
    text = found.save(tmp_path / "grid.vtk").read_text("utf-8")
    assert "DIMENSIONS 3 2 1" in text
    assert len(text.split("LOOKUP_TABLE default\n")[1].split()) == 6
    with pytest.raises(BadInput, match="npz"):
        found.save(tmp_path / "grid.png")
    (tmp_path / "file").write_text("", encoding="utf-8")
    for ending in ("npz", "vtk"):
        with pytest.raises(OutputError, match="grid"):
            found.save(tmp_path / "file" / f"grid.{ending}")


def test_it_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    model, x, y = made()
    one, two = filter_normalised(model, 1), filter_normalised(model, 2)
    calls = []

    def loss(run) -> Tensor:  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return F.cross_entropy(run(x), y)

    grid, kept = {"xs": (-1.0, 0.0, 1.0), "ys": (-1.0, 0.0, 1.0)}, tmp_path / "rows.json"
    with pytest.raises(KeyboardInterrupt):
        landscape(model, loss, one, two, resume=kept, at_once=1, **grid)
    found = landscape(model, loss, one, two, resume=kept, at_once=1, **grid)
    assert len(calls) == 6 + 6  # one row was finished
    assert np.allclose(found.losses, landscape(model, loss, one, two, **grid).losses)
    with pytest.raises(BadInput, match="at_once"):
        landscape(model, loss, one, two, at_once=0, **grid)
    with pytest.raises(BadInput, match="another grid"):
        landscape(model, loss, one, two, xs=(0.0,), resume=kept)
    kept.write_text("[", encoding="utf-8")
    with pytest.raises(BadInput, match="no landscape"):
        landscape(model, loss, one, two, resume=kept, **grid)


@pytest.mark.parametrize("at_once", [2, 5, 9])
def test_points_at_once_have_the_losses_of_single_ones(at_once: int) -> None:
    model, x, y = made()
    one, two = filter_normalised(model, 1, ignore="none"), filter_normalised(model, 2)
    one.pop("0.bias")  # a direction need not have every weight
    axis = np.linspace(-1, 1, 5)

    def grid(at_once: int):  # type: ignore[no-untyped-def]
        return landscape(model, lambda run: F.cross_entropy(run(x), y), one, two, xs=axis, at_once=at_once)

    single, many = grid(1), grid(at_once)
    assert (single.at_once, many.at_once) == (1, at_once)
    np.testing.assert_allclose(many.losses, single.losses, rtol=1e-10)


def test_rows_side_by_side_are_the_rows_one_after_another(tmp_path: Path) -> None:
    model, x, y = made()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    one, two = filter_normalised(model, 1), filter_normalised(model, 2)
    axis, told = np.linspace(-1, 1, 7), []

    def grid(**given):  # type: ignore[no-untyped-def]
        return landscape(model, lambda run: F.cross_entropy(run(x), y), one, two, xs=axis, **given).losses

    side = grid(workers=3, at_once=1, resume=tmp_path / "rows.json", tell=lambda *n: told.append(n))
    assert np.array_equal(side, grid(at_once=1))
    assert told == [(n, 7) for n in range(1, 8)]
    np.testing.assert_allclose(grid(workers=2, at_once=7), side, rtol=1e-10)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    here, kept = os.getpid(), tmp_path / "kept.json"

    def dies(run) -> Tensor:  # type: ignore[no-untyped-def]
        if os.getpid() != here:
            os._exit(9)
        return F.cross_entropy(run(x), y)

    with pytest.raises(MeasureError, match="worker that died"):
        landscape(model, dies, one, two, xs=axis, workers=2, resume=kept)
    assert len(json.loads(kept.read_text("utf-8"))["rows"]) == 1
    with pytest.raises(BadInput, match="not on the CPU"):
        landscape(nn.Linear(2, 2, device="meta"), lambda run: run(x), one, two, workers=2)


class Reads(nn.Module):
    """Its forward looks at a value, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return h if float(h.sum()) > 0 else 2 * h


def test_a_net_that_vmap_cannot_follow_is_measured_point_by_point() -> None:
    torch.manual_seed(0)
    model, x = Reads(), torch.randn(4, 3)
    one, two = filter_normalised(model, 1), filter_normalised(model, 2)
    axis = np.linspace(-1, 1, 4)
    found = landscape(model, lambda run: run(x).square().mean(), one, two, xs=axis)
    assert found.at_once == 1
    assert np.array_equal(
        found.losses, landscape(model, lambda run: run(x).square().mean(), one, two, xs=axis, at_once=1).losses
    )
    assert all(p.grad is None for p in model.parameters())


def test_the_ends_of_the_spectrum_are_those_of_the_whole_hessian() -> None:
    model, x, y = made()
    names = [n for n, _ in model.named_parameters()]

    def loss(*weights: Tensor) -> Tensor:
        out = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (x,))
        return F.cross_entropy(out, y)

    weights = tuple(p.detach() for p in model.parameters())
    blocks = torch.autograd.functional.hessian(loss, weights)
    sizes = [p.numel() for p in weights]
    whole = torch.cat([torch.cat([b.reshape(n, -1) for b in row], 1) for n, row in zip(sizes, blocks, strict=True)])
    values = torch.linalg.eigvalsh(whole)
    found = extreme_eigenvalues(model, lambda: F.cross_entropy(model(x), y), steps=200, tolerance=1e-9)
    assert found.high == pytest.approx(float(values[-1]), rel=1e-6)
    assert found.low == pytest.approx(float(values[0]), rel=1e-6, abs=1e-9 * float(values[-1]))
    rough = extreme_eigenvalues(model, lambda: F.cross_entropy(model(x), y), steps=3, tolerance=0)
    assert rough.steps == 3
    assert rough.residual > found.residual
    assert all(p.grad is None for p in model.parameters())


def test_attention_has_a_second_derivative_here_and_what_has_none_is_named() -> None:
    torch.manual_seed(0)
    x, attention = torch.randn(2, 5, 8), nn.MultiheadAttention(8, 2, batch_first=True)

    def loss() -> Tensor:
        return F.scaled_dot_product_attention(*(attention(x, x, x)[0],) * 3, is_causal=True).square().mean()

    found = extreme_eigenvalues(attention, loss, steps=8)
    assert found.low < found.high

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(y)
            return y.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            return 2 * grad * ctx.saved_tensors[0]

    layer = nn.Linear(3, 2)
    with pytest.raises(MeasureError, match="second derivative"):
        extreme_eigenvalues(layer, lambda: Once.apply(layer(torch.ones(4, 3))).sum())  # type: ignore[union-attr]


def test_a_loss_without_a_gradient_is_refused() -> None:
    model, x, y = made()
    with pytest.raises(BadInput, match="without a gradient"), torch.no_grad():
        extreme_eigenvalues(model, lambda: F.cross_entropy(model(x), y))
