"""Small builders of synthetic measurements: a healthy value for every figure, and each can be made sick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from skipgrad.core import (
    ChangeRow,
    Finding,
    Layer,
    LayerRow,
    LossPoint,
    Measurements,
    PathRow,
    PathSpectrum,
    Skip,
    SkipGraph,
    SkipRow,
)
from skipgrad.diagnosis import CHECKS

STEPS = range(10)


def layers(count: int, op: str = "conv2d") -> tuple[Layer, ...]:
    return tuple(Layer(f"l{i}", op, (8, 16, 8, 8), "l") for i in range(count))


def skip(name: str, start: int, end: int, **changes) -> Skip:
    values = {
        "name": name,
        "kind": "add",
        "shortcut": "identity",
        "long": False,
        "span": max(end - start, 1),
        "fan_in": 2,
        "branches": ((f"{name}.f",),),
        "fork_shape": (8, 16, 8, 8),
        "merge_shape": (8, 16, 8, 8),
        "start": start,
        "end": end,
    }
    return Skip(**(values | changes))


def residual_graph(blocks: int, per_block: int = 2, trunk: tuple[str, ...] = (), **changes) -> SkipGraph:
    """A stem, residual blocks in a row, a head."""
    skips, previous = [], None
    for i in range(blocks):
        start = 1 + per_block * i
        s = skip(f"b{i}", start, start + per_block, previous=previous, trunk=trunk if previous else (), **changes)
        skips.append(s)
        previous = s.name
    return SkipGraph(tuple(skips), layers=layers(2 + per_block * blocks))


def skip_row(step: int, name: str, **changes) -> SkipRow:
    values = {
        "step": step,
        "micro": 0,
        "skip": name,
        "skip_norm": 1.0,
        "branch_norm": 0.2,
        "total_norm": math.hypot(1.0, 0.2),
        "out_norm": 1.0,
        "cosine": 0.0,
        "gain": math.hypot(1.0, 0.2),
        "x_rms": 1.0,
        "branch_rms": 0.2,
        "residual": 0.0,
    }
    return SkipRow(**(values | changes))


def skip_rows(
    names: Iterable[str], change: Callable[[int, int], dict] = lambda step, i: {}, steps: Iterable[int] = STEPS
) -> tuple[SkipRow, ...]:
    """Rows of each skip and step; ``change(step, index)`` says what differs from healthy."""
    every = list(names)
    return tuple(skip_row(t, n, **change(t, i)) for t in steps for i, n in enumerate(every))


def layer_row(step: int, depth: int, **changes) -> LayerRow:
    values = {
        "step": step,
        "layer": f"l{depth}",
        "depth": depth,
        "out_grad_norm": 1.0,
        "weight_norm": 1.0,
        "weight_grad_norm": 0.5,
        "update_norm": 1e-3,
        "stalled": 0.0,
        "zero_grad": 0.0,
        "weights": 1000,
    }
    return LayerRow(**(values | changes))


def layer_rows(
    count: int, change: Callable[[int, int], dict] = lambda step, i: {}, steps: Iterable[int] = STEPS
) -> tuple[LayerRow, ...]:
    return tuple(layer_row(t, i, **change(t, i)) for t in steps for i in range(count))


def losses(values: Sequence[float]) -> tuple[LossPoint, ...]:
    return tuple(LossPoint(0, i, v, 0.1 * i) for i, v in enumerate(values))


def spectrum(branches: int, b: float, **changes) -> PathSpectrum:
    """Of branches in a row with ‖B‖ = b·‖S‖ each and S ⊥ B: a binomial, whose mean is n·b² / (1 + b²)."""
    p = b * b / (1 + b * b)
    shares = tuple(math.comb(branches, k) * p**k * (1 - p) ** (branches - k) for k in range(branches + 1))
    values = {
        "at": "b0",
        "lengths": tuple(range(branches + 1)),
        "norms": tuple(math.sqrt(s) for s in shares),  # orthogonal to each other
        "shares": shares,
        "longer_norm": 0.0,
        "longer_share": 0.0,
        "grad_norm": 1.0,
        "mean_length": branches * p,
        "residual": 1e-7,
        "branches": branches,
        "skips": tuple(f"b{i}" for i in range(branches)),
    }
    return PathSpectrum(**(values | changes))


def path_rows(before: PathSpectrum | None, after: PathSpectrum | None, steps: int = 10) -> tuple[PathRow, ...]:
    """Before the first step, and after the last."""
    return (PathRow(0, before, "" if before else "odd"), PathRow(steps, after, "" if after else "odd"))


def healthy_residual(blocks: int = 9) -> Measurements:
    """A pre-activation residual net: small branches, x that grows as the root of the depth."""
    graph = residual_graph(blocks)

    def change(step: int, i: int) -> dict:
        x, b = math.sqrt(1 + 0.2 * i), 0.3
        # The gradient at fork i is the gradient at merge i − 1.
        norm = math.hypot(1, b) ** (blocks - i)
        out = norm / math.hypot(1, b)
        return {
            "x_rms": x,
            "branch_rms": 0.4,
            "skip_norm": out,
            "branch_norm": b * out,
            "total_norm": norm,
            "out_norm": out,
        }

    count = len(graph.layers)
    return Measurements(
        graph,
        skip_rows([s.name for s in graph.skips], change),
        layer_rows(count, lambda t, i: {"out_grad_norm": 1.03 ** (count - i)}),
        losses([2.3 * 0.9**t for t in STEPS]),
        paths=path_rows(spectrum(blocks, 0.6), spectrum(blocks, 0.5)),
        changes=tuple(ChangeRow(t, 0.2, 0.1, blocks) for t in STEPS),
    )


def judge(code: str, measured: Measurements) -> Finding:
    return CHECKS.get(code)(measured)
