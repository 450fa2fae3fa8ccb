"""Turns the figures of one backward into records: `SkipRow`s, and the part of `LayerRow`s that a backward knows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipgrad.core import SkipRow
from skipgrad.ledger import statistics as t
from skipgrad.ledger.arrivals import Rows
from skipgrad.ledger.plan import SkipPlan, TapPlan


@dataclass
class Figures:
    """What one backward left in the slots.

    Attributes:
        skips: rows, without the skips nothing arrived at.
        layers: layer → (‖dL/dz‖, finite).
        missing: skip → why there is no row.
    """

    skips: list[SkipRow]
    layers: dict[str, tuple[float, bool]]
    missing: dict[str, str]


def read(plan: TapPlan, rows: Rows, refused: dict[int, str], *, step: int, micro: int, scale: float = 1.0) -> Figures:
    """The figures that one backward brought to one forward's slots.

    Args:
        plan: the slots were made for.
        rows: what arrived.
        refused: gathers of which only a part could be tapped, with the reason.
        step: number for the rows.
        micro: number inside the step.
        scale: what the loss was multiplied by (GradScaler); divided out.
    """
    figures = Figures([], {}, {})
    for skip in plan.skips:
        reason = next((refused[g] for g, _ in skip.gathers if g in refused), None)
        row = reason or _skip_row(
            skip, [rows.gathers[g] for g, _ in skip.gathers], rows.outs[skip.out], step, micro, scale
        )
        if isinstance(row, SkipRow):
            figures.skips.append(row)
        else:
            figures.missing[skip.name] = row
    for (name, _, _), row in zip(plan.layers, rows.layers, strict=True):
        if row[t.O_SEEN] == 1:
            size, finite = size_of(row[t.O_MAX], row[t.O_NORM], scale)
            layer = name.split("#")[0]
            before, fine = figures.layers.get(layer, (0.0, True))
            figures.layers[layer] = (math.hypot(before, size), fine and finite)
    return figures


def size_of(largest: float, unit: float, scale: float) -> tuple[float, bool]:
    """The norm that a scale and the norm relative to it stand for, unscaled; and whether it is finite."""
    finite = math.isfinite(largest) and math.isfinite(unit)
    return (largest * unit / scale if finite else largest), finite


def _skip_row(
    skip: SkipPlan, gathers: list[list[float]], out: list[float], step: int, micro: int, scale: float
) -> SkipRow | str:
    seen = [g[t.SEEN] for g in gathers]
    if all(s == 0 for s in seen):
        if skip.cut == "fork":
            return "its fork is detached: S and B are zero by construction"
        return "no gradient reached its fork (frozen, or not needed)"
    if any(s == 0 for s in seen):
        return f"no gradient reached {sum(s == 0 for s in seen)} of the {len(seen)} tensors its fork consists of"
    if any(s > 1 for s in seen) or out[t.O_SEEN] > 1:
        return "a part of the forward was differentiated more than once in one backward"
    if all(g[t.SEEN_S] == 0 for g in gathers):
        return (
            "its shortcut is detached: S is zero by construction"
            if skip.cut == "shortcut"
            else "no gradient came through its shortcut"
        )
    if all(g[t.SEEN_B] == 0 for g in gathers):
        return (
            "its branch is detached: B is zero by construction"
            if skip.cut == "branch"
            else "no gradient came through its branch"
        )
    s = b = total = dot = square = 0.0
    finite = True
    for g, (_, share) in zip(gathers, skip.gathers, strict=True):
        s_part, fine_s = size_of(g[t.S_MAX], g[t.S_NORM], scale)
        b_part, fine_b = size_of(g[t.B_MAX], g[t.B_NORM], scale)
        t_part, fine_t = size_of(g[t.T_MAX], g[t.T_NORM], scale)
        finite = finite and fine_s and fine_b and fine_t
        s, b, total = math.hypot(s, s_part), math.hypot(b, b_part), math.hypot(total, t_part)
        # Each scale is divided by the loss's factor before the two are multiplied: in double precision their product
        # then vanishes only below 1e-308.
        dot += g[t.DOT] * (g[t.S_MAX] / scale) * (g[t.B_MAX] / scale)
        square += share * g[t.X_SQUARE]
    arrived, fine = size_of(out[t.O_MAX], out[t.O_NORM], scale)
    finite = finite and fine
    arrived *= skip.out_scale
    cosine = dot / (s * b) if s > 0 and b > 0 else 0.0
    whole = s * s + b * b
    residual = abs(total * total - whole - 2 * dot) / whole if whole > 0 else 0.0
    return SkipRow(
        step=step,
        micro=micro,
        skip=skip.name,
        skip_norm=s,
        branch_norm=b,
        total_norm=total,
        out_norm=arrived,
        cosine=cosine,
        gain=total / arrived if arrived > 0 else math.nan,
        x_rms=math.sqrt(square) if square >= 0 else math.nan,
        branch_rms=math.sqrt(out[t.F_SQUARE]) if skip.squares and out[t.F_SQUARE] >= 0 else math.nan,
        residual=residual if finite else math.nan,
        finite=finite,
    )
