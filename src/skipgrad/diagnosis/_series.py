"""Arithmetic on rows that several checks share. Values that are not finite are left out; SG010 reports those."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from statistics import median
from typing import TypeVar

from skipgrad.core import LayerRow, Measurements, Skip, SkipRow

Row = TypeVar("Row", LayerRow, SkipRow)
Key = TypeVar("Key", bound=Hashable)

# A ratio to a gradient of zero is unbounded; it is reported as this instead of infinity.
UNBOUNDED = 1e12


def finite(value: float | None) -> bool:
    """Whether a figure was measured and is a finite number."""
    return value is not None and math.isfinite(value)


def share(top: float, bottom: float) -> float:
    """``top / bottom`` for norms; `UNBOUNDED` at most, 0 for 0 / 0."""
    if top == 0:
        return 0.0
    return min(top / bottom, UNBOUNDED) if bottom > 0 else UNBOUNDED


def medians(rows: Iterable[Row], key: Callable[[Row], Key], value: Callable[[Row], float | None]) -> dict[Key, float]:
    """Median of a figure over the steps, for each key; keys without a finite figure are left out."""
    seen: dict[Key, list[float]] = defaultdict(list)
    for row in rows:
        figure = value(row)
        if figure is not None and math.isfinite(figure):
            seen[key(row)].append(figure)
    return {k: median(v) for k, v in seen.items()}


def branch_to_skip(measured: Measurements) -> dict[str, float]:
    """b = ‖B‖ / ‖S‖ of each skip, median over the steps."""
    return medians(
        (r for r in measured.skips if finite(r.branch_norm) and finite(r.skip_norm)),
        lambda r: r.skip,
        lambda r: share(r.branch_norm, r.skip_norm),
    )


def slope(values: Iterable[float]) -> float:
    """Least-squares slope against 0, 1, 2, …; 0 for fewer than two values."""
    ys = list(values)
    n = len(ys)
    if n < 2:
        return 0.0
    centre = (n - 1) / 2
    mean = sum(ys) / n
    return sum((i - centre) * (y - mean) for i, y in enumerate(ys)) / sum((i - centre) ** 2 for i in range(n))


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of positive values; 1 when there are none."""
    logs = [math.log(v) for v in values if v > 0]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0


def runs(skips: Iterable[Skip]) -> list[list[Skip]]:
    """Skips in a row: each leads to the next with no branch in between (`Skip.previous`)."""
    followers: dict[str, Skip] = {}
    chained = list(skips)
    names = {s.name for s in chained}
    for s in chained:
        if s.previous in names and s.previous != s.name:
            followers.setdefault(str(s.previous), s)
    taken = {s.name for s in followers.values()}
    rows: list[list[Skip]] = []
    for first in chained:
        if first.name in taken:
            continue
        row, seen = [first], {first.name}
        while (after := followers.get(row[-1].name)) is not None and after.name not in seen:
            row.append(after)
            seen.add(after.name)
        rows.append(row)
    return rows


def deepest_nest(skips: list[Skip]) -> list[Skip]:
    """The longest chain of skips each of which lies strictly inside the one before, outermost first.

    Strictly on both sides: DenseNet's skips share their start, a ResNet's follow each other; only a U nests.
    """
    inward = sorted(skips, key=lambda s: (s.start, -s.end))
    best: list[list[Skip]] = []
    for position, s in enumerate(inward):
        around = [best[i] for i, o in enumerate(inward[:position]) if o.start < s.start and s.end < o.end]
        best.append([*max(around, key=len, default=[]), s])
    return max(best, key=len, default=[])


def stream(skips: Iterable[Skip]) -> list[Skip]:
    """The add and gate skips that the residual stream runs along, blocks that hold small skips of their own included.

    A skip inside one branch (LoRA beside a projection) starts behind what the block does to x first, a norm say, and
    is no
    link of the chain; a row of skips inside a long one (an outer skip around a tower) is a chain itself.
    """
    every = [s for s in skips if s.kind in ("add", "gate")]

    def holders(s: Skip) -> list[Skip]:
        return [
            o
            for o in every
            if o is not s and o.start <= s.start and s.end <= o.end and o.end - o.start > s.end - s.start
        ]

    def inside(s: Skip) -> bool:
        around = holders(s)
        if not around:
            return False
        if s.shortcut == "projection":
            return True
        nearest = min(around, key=lambda o: o.end - o.start)
        others = [o for o in every if o is not s and nearest in holders(o)]
        return not any(o.previous == s.name or s.previous == o.name for o in others)

    small = {s.name for s in every if inside(s)}
    out = []
    for s in every:
        held = [o for o in every if s in holders(o)]
        if s.name not in small and (not s.long or (held and all(o.name in small for o in held))):
            out.append(s)
    return out
