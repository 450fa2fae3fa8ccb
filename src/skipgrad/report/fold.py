"""Puts neighbouring layers and skips of a graph together where it is too large to draw; each group is in one stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

from skipgrad.core import Layer, Skip, SkipGraph
from skipgrad.report.marks import RANK

# More than these are not drawn one by one: every box and every arc is an element of the page that the slider changes.
MOST_LAYERS = 1200
MOST_SKIPS = 400

_T = TypeVar("_T")
Named = dict[str, tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Fold:
    """A graph as it is drawn.

    Attributes:
        graph: a graph in which each group is one layer or one skip; the graph itself where nothing had to be folded.
        layers: per group of layers, the places of its layers in the original graph.
        skips: per group of skips, the places of its skips in the original graph.
    """

    graph: SkipGraph
    layers: tuple[range, ...]
    skips: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, graph: SkipGraph, most_layers: int = MOST_LAYERS, most_skips: int = MOST_SKIPS) -> Fold:
        """The fold of a graph."""
        cells = _chunks([layer.stage for layer in graph.layers], most_layers)
        place = {i: k for k, cell in enumerate(cells) for i in cell}
        # Arcs that are put together are alike, and start in one stage.
        keys = [
            (s.kind, s.shortcut, s.long, graph.layers[s.start].stage if s.start < len(graph.layers) else "")
            for s in graph.skips
        ]
        arcs = [tuple(part) for part in _chunks(keys, most_skips)]
        if len(cells) == len(graph.layers) and len(arcs) == len(graph.skips):
            return cls(graph, tuple(cells), tuple(arcs))
        layers = tuple(_layer([graph.layers[i] for i in cell]) for cell in cells)
        skips = tuple(_skip([graph.skips[i] for i in part], place, len(cells)) for part in arcs)
        return cls(replace(graph, layers=layers, skips=skips), tuple(cells), tuple(arcs))

    @property
    def folded(self) -> bool:
        """Whether anything was put together."""
        return any(len(part) > 1 for part in (*self.layers, *self.skips))

    def sentence(self) -> str:
        """What was put together, for the caption; empty when nothing was."""
        said = []
        for parts, what, how in (
            (self.layers, "layers", "bars: root mean square of each box"),
            (self.skips, "skip connections", "an arc's share is that of its skips together"),
        ):
            if (most := max(map(len, parts), default=0)) > 1:
                count = sum(map(len, parts))
                said.append(f"{count:,} {what} are drawn as {len(parts):,} groups of up to {most:,} ({how})")
        return "; ".join(said)

    def together(self, norms: Sequence[float | None]) -> tuple[float | None, ...]:
        """Norms per skip as norms per arc: root of the sum of squares of those that are there."""
        return tuple(_total([norms[i] for i in part]) for part in self.skips)

    def averaged(self, norms: Sequence[float | None]) -> tuple[float | None, ...]:
        """Norms per layer as norms per box: root mean square of those that are there."""
        out = []
        for part in self.layers:
            known = [n for i in part if (n := norms[i]) is not None]
            total = _total(known)
            out.append(None if total is None else total / math.sqrt(len(known)))
        return tuple(out)

    def named(self, whole: SkipGraph, severity: Named) -> Named:
        """Severities of the groups: the gravest of their members', with all their codes."""
        if not self.folded or not severity:
            return severity
        out: Named = {}
        for record, part in zip(self.graph.layers, self.layers, strict=True):
            _gravest(out, record.name, (severity.get(whole.layers[i].name) for i in part))
        for record, part in zip(self.graph.skips, self.skips, strict=True):
            _gravest(out, record.name, (severity.get(whole.skips[i].name) for i in part))
        return out


def _chunks(keys: Sequence[object], most: int) -> list[range]:
    """Runs of places with one key, cut evenly so that there are at most ``most`` (or one a run, if that is more)."""
    if len(keys) <= most:
        return [range(i, i + 1) for i in range(len(keys))]
    found: list[range] = []
    start = 0
    for _, run in groupby(keys):
        end = start + len(list(run))
        found.append(range(start, end))
        start = end
    if len(found) >= most:  # neighbouring runs together
        size = -(-len(found) // most)
        return [range(found[i].start, found[min(i + size, len(found)) - 1].stop) for i in range(0, len(found), size)]
    size = -(-len(keys) // (most - len(found)))
    return [range(a, min(a + size, run.stop)) for run in found for a in range(run.start, run.stop, size)]


def _layer(members: list[Layer]) -> Layer:
    if len(members) == 1:
        return members[0]
    ops = dict.fromkeys(layer.op for layer in members)
    return Layer(_names(members, lambda layer: layer.name), ", ".join(ops), members[-1].out_shape, members[0].stage)


def _skip(members: list[Skip], place: dict[int, int], cells: int) -> Skip:
    start = min(place.get(s.start, cells - 1) for s in members)
    end = max(place.get(s.end - 1, cells - 1) for s in members) + 1
    name = members[0].name if len(members) == 1 else _names(members, lambda s: s.name)
    return replace(
        members[0], name=name, span=max(s.span for s in members), start=start, end=max(end, start + 1), previous=None
    )


def _names(members: Sequence[_T], name: Callable[[_T], str]) -> str:
    return f"{name(members[0])} … {name(members[-1])} ({len(members):,})"


def _total(norms: Iterable[float | None]) -> float | None:
    known = [n for n in norms if n is not None]
    return math.hypot(*known) if known else None


def _gravest(out: Named, name: str, found: Iterable[tuple[str, tuple[str, ...]] | None]) -> None:
    those = [f for f in found if f is not None]
    if those:
        worst = min((f[0] for f in those), key=lambda level: RANK.get(level, 3))
        out[name] = (worst, tuple(dict.fromkeys(code for f in those for code in f[1])))
