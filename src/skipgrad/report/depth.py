"""How the gradient changes with depth: its norm per layer at the first and last step, and the floor under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skipgrad.core import LayerRow, Run
from skipgrad.report.floor import floor
from skipgrad.report.subjects import Subject
from skipgrad.report.text import finite


@dataclass(frozen=True)
class DepthCurves:
    """Curves of gradient norm over depth.

    Attributes:
        quantity: ``"‖dL/dW‖"``, or ``"‖dL/dz‖"`` where no weight gradient was measured.
        points: records of who, when, depth, layer, norm; only positive numbers, the axis being logarithmic.
        floor: records of depth and floor, of the patient.
        zero: how many layers, over all curves, got a gradient of exactly zero.
        broken: how many got one that is not finite.
    """

    quantity: str
    points: tuple[dict[str, Any], ...]
    floor: tuple[dict[str, Any], ...]
    zero: int
    broken: int


def depth_curves(run: Run, who: tuple[Subject, ...]) -> DepthCurves:
    """The curves of the patient and, where measured, of the cured net."""
    weights = any(r.weight_grad_norm is not None for s in who for r in s.layers)
    points: list[dict[str, Any]] = []
    zero = broken = 0
    for subject in who:
        for when, rows in _ends(subject):
            for r in rows:
                norm = r.weight_grad_norm if weights else r.out_grad_norm
                if norm is None:
                    continue
                if not finite(norm):
                    broken += 1
                elif norm == 0:
                    zero += 1
                else:
                    points.append({"who": subject.who, "when": when, "depth": r.depth, "layer": r.layer, "norm": norm})
    return DepthCurves(
        "‖dL/dW‖" if weights else "‖dL/dz‖", tuple(points), _floor(run, who[0]) if weights else (), zero, broken
    )


def _ends(subject: Subject) -> list[tuple[str, list[LayerRow]]]:
    steps = sorted({r.step for r in subject.layers})
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
