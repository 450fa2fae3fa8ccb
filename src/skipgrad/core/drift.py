"""What `skipgrad.probes.drift.Drift` returns: how far weights and representations have come. Plain data, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from skipgrad.core.draw.words import clean, many

_MOST = 40  # rows of a table in text


@dataclass(frozen=True)
class WeightDrift:
    """The weights of one layer against those at the start. Norms are L2 norms over all its weights, biases left out.

    Attributes:
        layer: path of the module that owns them.
        depth: its position in the order of execution, from 0.
        weights: how many there are.
        start_norm: ‖w₀‖.
        norm: ‖w‖ now.
        moved: ‖w − w₀‖.
        change: ‖w − w₀‖ / ‖w₀‖; NaN where w₀ is zero.
        cosine: ⟨w, w₀⟩ / (‖w‖·‖w₀‖); NaN where one of them is zero.
    """

    layer: str
    depth: int
    weights: int
    start_norm: float
    norm: float
    moved: float
    change: float
    cosine: float


@dataclass(frozen=True)
class RepresentationDrift:
    """One representation h of the fixed inputs, against the start and against the one before it on the way.

    Attributes:
        name: the skip whose merge returns it; or the layer that takes it in.
        shape: its shape.
        start_norm: ‖h₀‖, over the whole batch tensor.
        norm: ‖h‖ now.
        change: ‖h − h₀‖ / ‖h₀‖; NaN where h₀ is zero.
        cosine: ⟨h, h₀⟩ / (‖h‖·‖h₀‖); NaN where one of them is zero.
        before: the latest representation it was computed from; None when there is none, or one of another shape.
        adjacent_start: its cosine with the one before, at the start; None without one.
        adjacent: the same now.
    """

    name: str
    shape: tuple[int, ...]
    start_norm: float
    norm: float
    change: float
    cosine: float
    before: str | None = None
    adjacent_start: float | None = None
    adjacent: float | None = None

    @property
    def adjacent_change(self) -> float | None:
        """Trained minus initial: how much more alike the two have become."""
        if self.adjacent is None or self.adjacent_start is None:
            return None
        return self.adjacent - self.adjacent_start


@dataclass(frozen=True)
class DriftReading:
    """One reading.

    Attributes:
        at: ``"merges"`` (what the merges of the skips return) or ``"layers"`` (what the weighted layers take in).
        weights: per weighted layer, in order of execution.
        representations: in order of execution.
        notes: what could not be read, and why.
    """

    at: str
    weights: tuple[WeightDrift, ...]
    representations: tuple[RepresentationDrift, ...]
    notes: tuple[str, ...] = ()

    @property
    def adjacent(self) -> float:
        """Mean cosine of adjacent representations now; NaN when no two are adjacent."""
        return _mean(r.adjacent for r in self.representations)

    @property
    def adjacent_start(self) -> float:
        """The same at the start."""
        return _mean(r.adjacent_start for r in self.representations)

    @property
    def adjacent_change(self) -> float:
        """Trained minus initial."""
        return self.adjacent - self.adjacent_start

    def __str__(self) -> str:
        pairs = sum(r.adjacent is not None for r in self.representations)
        lines = [f"drift of {many(len(self.weights), 'layer')} and {many(len(self.representations), 'representation')}"]
        if pairs:
            lines.append(
                f"adjacent cosine {self.adjacent:.3f}, at the start {self.adjacent_start:.3f} "
                f"({self.adjacent_change:+.3f}), mean over {many(pairs, 'pair')}"
            )
        weights = [(w.layer, w.change, w.cosine) for w in self.weights]
        lines += ["", *_table(("layer", "|w-w0|/|w0|", "cosine"), weights)]
        what = "merge" if self.at == "merges" else "input of"
        heads = (what, "|h-h0|/|h0|", "cosine", "adjacent", "at start")
        rows = [(r.name, r.change, r.cosine, r.adjacent, r.adjacent_start) for r in self.representations]
        return "\n".join([*lines, "", *_table(heads, rows), *(f"note: {clean(n)}" for n in self.notes)])


def _table(heads: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> list[str]:
    names = [clean(row[0]) for row in rows[:_MOST]]
    wide = max(map(len, (heads[0], *names)))
    out = [f"{heads[0]:<{wide}}" + "".join(f"{h:>13}" for h in heads[1:])]
    for name, row in zip(names, rows, strict=False):
        cells = "".join(f"{'':>13}" if v is None else f"{v:>13.4f}" for v in row[1:])
        out.append(f"{name:<{wide}}{cells}".rstrip())
    return out + ([f"… and {len(rows) - _MOST} more"] if len(rows) > _MOST else [])


def _mean(values: Iterable[float | None]) -> float:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else math.nan
