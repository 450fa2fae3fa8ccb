"""How the gradient changes with depth: its norm per layer at the first and last step, and the floor under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skipgrad.core import LayerRow, Run
from skipgrad.report.floor import floor
from skipgrad.report.subjects import Subject
from skipgrad.report.text import finite, sample

# Points of one curve. Of a net of more layers the smallest and the largest of neighbours are drawn: no dip gets lost.
MOST_POINTS = 400


@dataclass(frozen=True)
class DepthCurves:
    """Curves of gradient norm over depth.

    Attributes:
        quantity: ``"‖dL/dW‖"``, or ``"‖dL/dz‖"`` where no weight gradient was measured.
        points: records of who, when, depth, layer, norm; only positive numbers, the axis being logarithmic.
        floor: records of depth and floor, of the patient.
        zero: how many layers, over all curves, got a gradient of exactly zero.
        broken: how many got one that is not finite.
        per_pair: of how many neighbouring layers the smallest and the largest are drawn; 1 when all are.
    """

    quantity: str
    points: tuple[dict[str, Any], ...]
    floor: tuple[dict[str, Any], ...]
    zero: int
    broken: int
    per_pair: int = 1


def depth_curves(run: Run, who: tuple[Subject, ...]) -> DepthCurves:
    """The curves of the patient and, where measured, of the cured net."""
    weights = any(r.weight_grad_norm is not None for s in who for r in s.layers)
    points: list[dict[str, Any]] = []
    zero = broken = 0
    per_pair = 1
    for subject in who:
        for when, rows in _ends(subject):
            curve: list[dict[str, Any]] = []
            for r in rows:
                norm = r.weight_grad_norm if weights else r.out_grad_norm
                if norm is None:
                    continue
                if not finite(norm):
                    broken += 1
                elif norm == 0:
                    zero += 1
                else:
                    curve.append({"who": subject.who, "when": when, "depth": r.depth, "layer": r.layer, "norm": norm})
            if len(curve) > MOST_POINTS:
                size = math.ceil(len(curve) / (MOST_POINTS // 2))
                per_pair = max(per_pair, size)
                curve = _envelope(curve, size)
            points += curve
    floors = sample(_floor(run, who[0]), MOST_POINTS) if weights else []
    return DepthCurves("‖dL/dW‖" if weights else "‖dL/dz‖", tuple(points), tuple(floors), zero, broken, per_pair)


def _envelope(curve: list[dict[str, Any]], size: int) -> list[dict[str, Any]]:
    """The smallest and the largest of every ``size`` neighbours, in their order."""
    out = []
    for i in range(0, len(curve), size):
        part = range(i, min(i + size, len(curve)))
        ends = {min(part, key=lambda k: curve[k]["norm"]), max(part, key=lambda k: curve[k]["norm"])}
        out += [curve[k] for k in sorted(ends)]
    return out


def _ends(subject: Subject) -> list[tuple[str, list[LayerRow]]]:
    present = {r.step for r in subject.layers}
    steps = [step for step in subject.steps if step in present]
    chosen = list(zip(("first step", "last step"), dict.fromkeys([*steps[:1], *steps[-1:]]), strict=False))
    return [
        (f"{when} measured", sorted((r for r in subject.layers if r.step == step), key=lambda r: r.depth))
        for when, step in chosen
    ]


def _floor(run: Run, patient: Subject) -> tuple[dict[str, Any], ...]:
    """Per layer, of the last step at which it is known."""
    rate = patient.rate if patient.rate is not None else run.meta.get("lr")
    floors: dict[int, float] = {}
    for r in patient.layers:
        value = floor(r, rate, str(run.meta.get("optimizer", "")))
        if value is not None:
            floors[r.depth] = value
    return tuple({"depth": d, "floor": f} for d, f in sorted(floors.items()))
