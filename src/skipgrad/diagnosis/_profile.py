"""The gradient of each layer relative to the last ones: what SG001 and SG002 look at from two sides."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from statistics import median

from skipgrad.core import LayerRow, Measurements
from skipgrad.diagnosis._check import Judgement, not_applicable, skipped
from skipgrad.diagnosis._series import UNBOUNDED, finite, medians, slope

# With fewer layers there is no depth over which a gradient could vanish or explode.
FEWEST_LAYERS = 4
# "The first layers" and "the last layers" are this many at each end, of which the one with the largest gradient speaks:
# the gradient *reaches* that depth. Queries and keys get a thousandth of it at first (in BERT, attention being near
# uniform), and so does a branch that starts closed; neither says anything about the way back.
END = 3
# A layer after which the gradient is ten times larger, in the last quarter of the net, belongs to a head at the side:
# its
# loss has a small weight, and what the layers before it get comes from elsewhere. Depth alone does not jump so.
ASIDE = 10.0
# A stretch is starved that gets a thousandth of what comes to both sides of it: SG001's figure, for the middle.
STARVED = 1e-3
# Two in a row may have a reason of their own (queries and keys, next to which values get all); three are a part of
# the net.
FEWEST_STARVED = 3


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
        starved: layers in the middle, in a row, that get a tiny part of the gradient of the layers before *and* behind
            them, as the bottleneck of a U-Net does whose outer skips do all the work.
        starved_share: of the gradient on the poorer side of them, what the poorest of them gets; 1 where none
            is starved.
        aside: layers at the end that are a head at the side, and no measure for the others.
    """

    layers: tuple[str, ...]
    relative: tuple[float, ...]
    first_to_last: float
    at_start: float
    per_layer: float
    weights_first_to_last: float | None
    steps: int
    starved: tuple[str, ...] = ()
    starved_share: float = 1.0
    aside: tuple[str, ...] = ()

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
    aside = _aside(ends, relative)
    if aside:
        rows = [r for r in rows if r.layer not in aside]
        ends = [name for name in ends if name not in aside]
        relative = _relative(rows, ends, lambda r: r.out_grad_norm)
    layers = tuple(name for name in ends if name in relative)
    figures = tuple(relative[name] for name in layers)
    k = end_size(len(layers))
    logs = [math.log(f) for f in figures if f > 0]
    weights = _relative(
        rows, ends, lambda r: None if not r.weight_norm else (r.weight_grad_norm or 0.0) / r.weight_norm
    )
    starved, share_ = _starved(measured, relative, rows, ends)
    return Profile(
        layers=layers,
        relative=figures,
        first_to_last=max(figures[:k]),
        at_start=_at_start(rows, ends),
        per_layer=math.exp(-slope(logs)),
        weights_first_to_last=max((weights[n] for n in layers[:k] if n in weights), default=None),
        steps=len({r.step for r in rows}),
        starved=starved,
        starved_share=share_,
        aside=aside,
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


def _aside(order: list[str], relative: dict[str, float]) -> tuple[str, ...]:
    """Layers at the end whose gradient is tiny next to that of all layers just before them: an auxiliary head."""
    known = [name for name in order if name in relative]
    for cut in range(max(FEWEST_LAYERS, len(known) - max(1, len(known) // 4)), len(known)):
        head = max(relative[n] for n in known[cut:])
        if head > 0 and min(relative[n] for n in known[cut - FEWEST_LAYERS + 1 : cut]) > ASIDE * head:
            return tuple(known[cut:])
    return ()


def _starved(
    measured: Measurements, relative: dict[str, float], rows: list[LayerRow], order: list[str]
) -> tuple[tuple[str, ...], float]:
    """The longest stretch of the stream that gets a tiny part of what both sides of it get, and how tiny."""
    stream = _stream(measured, relative, rows, order)
    figures = [figure for _, figure in stream]
    before = [0.0] * len(stream)
    behind = [0.0] * len(stream)
    for i in range(1, len(stream)):
        before[i] = max(before[i - 1], figures[i - 1])
        behind[-1 - i] = max(behind[-i], figures[-i])
    best: tuple[tuple[str, ...], float] = ((), 1.0)
    names: list[str] = []
    least = 1.0
    for (name, figure), one, other in [*zip(stream, before, behind, strict=True), (("", 1.0), 0.0, 0.0)]:
        side = min(one, other)
        if side > 0 and figure < STARVED * side:
            names.append(name)
            least = min(least, figure / side)
            continue
        if len(names) >= FEWEST_STARVED and len(names) > len(best[0]):
            best = (tuple(names), least)
        names, least = [], 1.0
    return best


def _stream(
    measured: Measurements, relative: dict[str, float], rows: list[LayerRow], order: list[str]
) -> list[tuple[str, float]]:
    """The layers that lie on no short branch, in order: inside one the gradient may be small on purpose "
    "(LayerScale)."""
    skips = [s for s in measured.graph.skips if s.kind in ("add", "gate") and not s.long]
    if not skips:
        return [(name, relative[name]) for name in order if name in relative]
    place: dict[str, int] = {}
    for position, layer in enumerate(measured.graph.layers):
        place.setdefault(layer.name.split("#")[0], position)
    branched = {name for name, at in place.items() if any(s.start <= at < s.end for s in skips)}
    points = [(place.get(n, k), n, relative[n]) for k, n in enumerate(order) if n in relative and n not in branched]
    # Where the branches are left out, the gradient at their forks says what the stream gets.
    last = set(order[-end_size(len(order)) :])
    top: dict[int, float] = defaultdict(float)
    for r in rows:
        if r.layer in last:
            top[r.step] = max(top[r.step], r.out_grad_norm)
    here = [r for r in measured.skips if top.get(r.step, 0.0) > 0 and finite(r.total_norm)]
    at_fork = medians(here, lambda r: r.skip, lambda r: r.total_norm / top[r.step])
    points += [(s.start, s.name, at_fork[s.name]) for s in skips if s.name in at_fork]
    return [(name, figure) for _, name, figure in sorted(points, key=lambda p: p[0])]


def moving(measured: Measurements, names: Collection[str]) -> float | None:
    """How fast these layers change next to the others: ‖ΔW‖ / ‖W‖, median; None where no updates were measured."""
    rows = [r for r in measured.layers if finite(r.update_norm) and finite(r.weight_norm) and r.weight_norm > 0]
    each = medians(rows, lambda r: r.layer, lambda r: (r.update_norm or 0.0) / r.weight_norm)
    own = [v for n, v in each.items() if n in names]
    others = [v for n, v in each.items() if n not in names and v > 0]
    return median(own) / median(others) if own and others else None


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
