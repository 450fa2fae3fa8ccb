"""How fast layers move, and how fast one would move if it went at the others' pace."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from statistics import median

from skipgrad.core import LayerRow
from skipgrad.diagnosis._series import finite, medians

# Weights of a thousandth of the others' size were started at zero: what they move by is many times what they are.
SIZED = 1e-3


def sized(rows: Iterable[LayerRow]) -> list[LayerRow]:
    """The rows whose update says something next to their weights: those of layers that did not start at zero."""
    here = [r for r in rows if finite(r.update_norm) and finite(r.weight_norm) and r.weight_norm > 0 and r.weights > 0]
    if not here:
        return []
    usual = median(r.weight_norm / math.sqrt(r.weights) for r in here)
    return [r for r in here if r.weight_norm / math.sqrt(r.weights) >= SIZED * usual]


def relative_updates(rows: Iterable[LayerRow]) -> dict[str, float]:
    """‖ΔW‖ / ‖W‖ of each layer that did not start at zero, median over the steps."""
    here = sized(rows)
    return medians(here, lambda r: r.layer, lambda r: (r.update_norm or 0.0) / r.weight_norm)


def expected_update(rows: list[LayerRow], layer: str, still: Collection[str]) -> float | None:
    """‖ΔW‖ / ‖W‖ that a layer would have at the pace of those that move; None where none moves.

    The pace is that of SGD (one rate, times the gradient) or of Adam (alike in all layers), whichever is slower.

    Args:
        rows: of the steps judged.
        layer: the one that does not move.
        still: all that do not.
    """
    moved = relative_updates(rows)
    each = [r for r in rows if finite(r.update_norm) and r.weight_grad_norm and finite(r.weight_grad_norm)]
    rates = medians(each, lambda r: r.layer, lambda r: (r.update_norm or 0.0) / (r.weight_grad_norm or 1.0))
    others = [n for n in moved if n not in still and moved[n] > 0 and n in rates]
    if not others:
        return None
    own = [r for r in each if r.layer == layer and r.weight_norm > 0]
    push = medians(own, lambda r: r.layer, lambda r: (r.weight_grad_norm or 0.0) / r.weight_norm).get(layer, 0.0)
    return min(median(rates[n] for n in others) * push, median(moved[n] for n in others))
