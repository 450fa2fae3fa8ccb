"""The gradient of each layer relative to the last ones: what SG001 and SG002 look at from two sides."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from skipgrad.core import LayerRow, Measurements
from skipgrad.diagnosis._check import Judgement, not_applicable, skipped
from skipgrad.diagnosis._series import UNBOUNDED, finite, medians, slope

# With fewer layers there is no depth over which a gradient could vanish or explode.
FEWEST_LAYERS = 4
# "The first layers" and "the last layers" are this many at each end, of which the one with the largest gradient speaks:
# the gradient *reaches* that depth. Queries and keys get a thousandth of it at first (in BERT, attention being near
# uniform), and so does a branch that starts closed; neither says anything about the way back.
END = 3


@dataclass(frozen=True)
class Profile:
    """How the gradient fares on its way back from the last layers.

    Attributes:
        layers: names of the layers, from input to output.
        relative: per layer in that order, ‖dL/dz‖ over the largest ‖dL/dz‖ of the last layers; median over the steps.
        first_to_last: the largest `relative` of the first layers.
        at_start: `first_to_last` for the first measured step alone.
        per_layer: the factor by which the gradient changes per layer, going backwards (a fit on a log scale).
        weights_first_to_last: as `first_to_last`, of ‖dL/dW‖ / ‖W‖ in place of ‖dL/dz‖; None where not measured.
        steps: how many steps the medians are over.
    """

    layers: tuple[str, ...]
    relative: tuple[float, ...]
    first_to_last: float
    at_start: float
    per_layer: float
    weights_first_to_last: float | None
    steps: int

    def onset(self, beyond: float) -> str | None:
        """The layer nearest the output such that it, and all layers before it, are beyond a limit; None when none is.

        Args:
            beyond: the limit for `relative`. Below one a layer is beyond it when its figure is lower, else when higher.
        """
        name = None
        for layer, figure in zip(self.layers, self.relative, strict=True):
            if (figure < beyond) if beyond < 1 else (figure > beyond):
                name = layer
            else:
                break
        return name


def profile(measured: Measurements) -> Profile | Judgement:
    """The profile, or the verdict that stands in for it when there is none."""
    rows = [r for r in measured.layers if finite(r.out_grad_norm)]
    # A frozen or unused layer gets no gradient on purpose.
    rows = [r for r in rows if r.weight_grad_norm is not None] or [r for r in rows if r.out_grad_norm > 0]
    if not rows:
        known = len(measured.graph.layers)
        if known < FEWEST_LAYERS:
            return not_applicable(f"the net has {known} weighted layers, fewer than {FEWEST_LAYERS}")
        return skipped("no layer's gradient was measured; watch a backward pass")
    ends = _ends(rows)
    if len(ends) < FEWEST_LAYERS:
        return not_applicable(f"{len(ends)} layers get a gradient, fewer than {FEWEST_LAYERS}")

    relative = _relative(rows, ends, lambda r: r.out_grad_norm)
    if len(relative) < FEWEST_LAYERS:
        return skipped("the last layers' gradient is zero or not finite at every step measured")
    layers = tuple(name for name in ends if name in relative)
    figures = tuple(relative[name] for name in layers)
    k = end_size(len(layers))
    logs = [math.log(f) for f in figures if f > 0]
    weights = _relative(
        rows, ends, lambda r: None if not r.weight_norm else (r.weight_grad_norm or 0.0) / r.weight_norm
    )
    return Profile(
        layers=layers,
        relative=figures,
        first_to_last=max(figures[:k]),
        at_start=_at_start(rows, ends),
        per_layer=math.exp(-slope(logs)),
        weights_first_to_last=max((weights[n] for n in layers[:k] if n in weights), default=None),
        steps=len({r.step for r in rows}),
    )


def _at_start(rows: list[LayerRow], ends: list[str]) -> float:
    start = min(r.step for r in rows)
    relative = _relative([r for r in rows if r.step == start], ends, lambda r: r.out_grad_norm)
    return max((relative[name] for name in ends[: end_size(len(ends))] if name in relative), default=0.0)


def end_size(layers: int) -> int:
    """How many layers count as the first ones (and the last ones)."""
    return max(1, min(END, layers // 4))


def _ends(rows: list[LayerRow]) -> list[str]:
    """Names of the layers from input to output."""
    depth: dict[str, int] = {}
    for r in rows:
        depth[r.layer] = min(r.depth, depth.get(r.layer, r.depth))
    return sorted(depth, key=lambda name: depth[name])


def _relative(rows: list[LayerRow], order: list[str], value: Callable[[LayerRow], float | None]) -> dict[str, float]:
    """Each layer's figure / the largest of the last layers' in the same step; median over the steps."""
    last = set(order[-end_size(len(order)) :])
    reference: dict[int, float] = defaultdict(float)
    for r in rows:
        figure = value(r)
        if r.layer in last and figure is not None and math.isfinite(figure):
            reference[r.step] = max(reference[r.step], figure)
    usable = [r for r in rows if reference.get(r.step, 0.0) > 0 and finite(value(r))]
    return medians(usable, lambda r: r.layer, lambda r: min((value(r) or 0.0) / reference[r.step], UNBOUNDED))
