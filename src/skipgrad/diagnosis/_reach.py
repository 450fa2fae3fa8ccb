"""How far the loss can be moved by what comes back to each layer: tells a dead loss from a small rate."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from skipgrad.core import LayerRow, Measurements
from skipgrad.diagnosis._pace import sized
from skipgrad.diagnosis._series import finite

# A loss of which no layer could move a thousandth by changing by its whole size (to first order) is flat: the cross
# entropy of a fresh net stands at .01 to 10.
FLAT = 1e-3
# A layer that moves by less than a hundred-thousandth of itself a step stays as it is for any run one watches.
STILL = 1e-5
# What a step would have to take off the loss, times the steps, to be seen: a hundredth of it.
SEEN = 0.01
# A healthy layer moves by about a thousandth of itself a step.
HEALTHY_STEP = 1e-3
# A relative update above this rewrites a layer in ten steps.
LARGE_STEP = 0.1
# A weight whose gradient is this small next to that of its layer's result has been given zeros as input.
DEAD_INPUT = 1e-6


@dataclass(frozen=True)
class Reach:
    """What the late half of the steps measured could have done to the loss.

    Attributes:
        elasticity: the largest ‖dL/dW‖·‖W‖ / |L| of all layers, median over the steps: what share of the loss a
        change of
            a layer by its whole size could take off it, to first order.
        update: the largest ‖ΔW‖ / ‖W‖ of all layers; None where no updates were measured.
        last_gradient: ‖dL/dz‖ of the last layer.
        last_dead: the last layer's weights get (next to) no gradient although its result does: its input is zero.
    """

    elasticity: float
    update: float | None
    last_gradient: float
    last_dead: bool

    @property
    def flat(self) -> bool:
        """Nothing to speak of comes back from the loss itself."""
        return self.elasticity < FLAT

    @property
    def still(self) -> bool:
        """The steps are too small to change any layer."""
        return self.update is not None and self.update < STILL


def rate_factor(update: float) -> float:
    """What to multiply the rate by so that a layer moves by a thousandth of itself a step: a power of ten."""
    return 10.0 ** min(12, max(-12, round(math.log10(HEALTHY_STEP / update)))) if update > 0 else 1.0


def largest_update(measured: Measurements, before: int) -> float | None:
    """‖ΔW‖ / ‖W‖ of the layer that moved most, in the first step before one in which a layer was rewritten.

    Where no step rewrote one, of all those steps; None where none was measured. What follows a step that was too large
    says no more about the rate.
    """
    by_step: dict[int, float] = defaultdict(float)
    for r in measured.layers:
        if r.step < before and finite(r.update_norm) and finite(r.weight_norm) and r.weight_norm > 0:
            by_step[r.step] = max(by_step[r.step], (r.update_norm or 0.0) / r.weight_norm)
    large = next((u for _, u in sorted(by_step.items()) if u > LARGE_STEP), None)
    return large if large is not None else max(by_step.values(), default=None)


def reach(measured: Measurements, loss: float) -> Reach | None:
    """The reach of the late half of the steps; None where no layer's weight gradient was measured."""
    rows = [
        r for r in measured.layers if finite(r.weight_grad_norm) and finite(r.weight_norm) and finite(r.out_grad_norm)
    ]
    if not rows or not math.isfinite(loss):
        return None
    steps = sorted({r.step for r in rows})
    late = set(steps[len(steps) // 2 :])
    rows = [r for r in rows if r.step in late]
    by_step: dict[int, list[LayerRow]] = defaultdict(list)
    for r in rows:
        by_step[r.step].append(r)
    size = max(abs(loss), 1e-300)
    elasticity = median(
        max((r.weight_grad_norm or 0.0) * r.weight_norm for r in each) / size for each in by_step.values()
    )
    moved = [
        max((r.update_norm or 0.0) / r.weight_norm for r in usual)
        for each in by_step.values()
        if (usual := sized(each))
    ]
    last = max(rows, key=lambda r: r.depth).layer
    own = [r for r in rows if r.layer == last]
    gradient = median(r.out_grad_norm for r in own)
    dead = gradient > 0 and median(r.weight_grad_norm or 0.0 for r in own) < DEAD_INPUT * gradient
    return Reach(elasticity, median(moved) if moved else None, gradient, dead)
