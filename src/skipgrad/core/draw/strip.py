"""A network as a strip from input to output, with an arc for every skip over the layers it bypasses.

Where things go, for every drawing of it: the bare one (`draw.svg`) and the report's, which puts what it measured on
top. A layer is a cell of the strip; an arc rises where its fork is made and comes down where its merge runs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from skipgrad.core.draw.groups import Group, stages
from skipgrad.core.draw.words import ROOT, about, clean, xml
from skipgrad.core.skips import Layer, Skip, Skips
from skipgrad.core.units import shape as sizes

WIDTH = 1088  # what a page gives it at 1280 px; long nets grow past it and scroll
LEFT, RIGHT = 46, 14
NARROWEST_CELL = 5.0
BAND = 14
HIGHEST_ARC = 190.0
LETTER = 6.2  # px of a character of 11 px, on the generous side

# Height of an arc over the root of its width. That law is what keeps nested arcs apart: of two cubics with upright ends
# the wider one then lies above the narrower all along, even where they start at one point.
_STEEPEST = 9.0
# Arcs over exactly the same layers would hide each other; each next one is steeper by this.
_APART = 1.15


@dataclass(frozen=True)
class Strip:
    """Where the parts of a drawing are, in px.

    Attributes:
        cell: width of a layer.
        width: of the whole drawing.
        heights: of the arcs, in the graph's order.
        base: y of the upper edge of the strip, on which the arcs stand.
    """

    cell: float
    width: float
    heights: tuple[float, ...]
    base: float

    @classmethod
    def of(cls, graph: Skips, top: float) -> Strip:
        """The strip of a graph below ``top`` px left for a heading."""
        n = max(1, len(graph.layers), max((s.end for s in graph.skips), default=0))
        cell = max(NARROWEST_CELL, (WIDTH - LEFT - RIGHT) / n)
        heights = arc_heights(graph.skips, cell)
        return cls(cell, LEFT + RIGHT + cell * n, tuple(heights), top + (max(heights) + 10 if heights else 2))

    def x(self, position: float) -> float:
        """Left edge of the layer at a position."""
        return LEFT + self.cell * position

    def feet(self, skip: Skip) -> tuple[float, float]:
        """Where an arc leaves and reaches the strip, with a little air between neighbours."""
        air = _air(self.cell)
        return self.x(skip.start) + air, self.x(skip.start + _length(skip)) - air

    def path(self, i: int, skip: Skip) -> str:
        """The arc of skip ``i`` as path data."""
        x0, x1 = self.feet(skip)
        top = self.base - self.heights[i] / 0.75  # a cubic rises to three quarters of its handles
        return f"M{x0:.1f},{self.base:.1f}C{x0:.1f},{top:.1f} {x1:.1f},{top:.1f} {x1:.1f},{self.base:.1f}"

    def crown(self, i: int, skip: Skip) -> tuple[float, float]:
        """The highest point of an arc."""
        x0, x1 = self.feet(skip)
        return (x0 + x1) / 2, self.base - self.heights[i]


def arc_heights(skips: Sequence[Skip], cell: float) -> list[float]:
    """Height of each arc: one that holds another lies above it everywhere, and the highest fits the drawing."""
    spans = [(s.start, s.start + _length(s)) for s in skips]
    twins: dict[tuple[float, float], int] = defaultdict(int)
    steep = []
    for span in spans:
        steep.append(_APART ** twins[span])
        twins[span] += 1
    # What holds a steeper arc must be as steep. From the narrowest on, so that each is settled when it is asked.
    steeper = [i for i in range(len(spans)) if steep[i] > 1]
    if steeper:
        order = sorted(range(len(spans)), key=lambda i: spans[i][1] - spans[i][0])
        for i in order:
            inner = (j for j in steeper if spans[j] != spans[i] and _holds(spans[i], spans[j]))
            rise = max((steep[j] for j in inner), default=1.0)
            if rise > 1:
                if steep[i] == 1:
                    steeper.append(i)
                steep[i] *= rise
    raw = [k * math.sqrt(cell * (b - a) - 2 * _air(cell)) for k, (a, b) in zip(steep, spans, strict=True)]
    scale = min(_STEEPEST, HIGHEST_ARC / max(raw, default=1.0))
    return [scale * h for h in raw]


def arc(
    i: int, skip: Skip, strip: Strip, *, classes: str, stroke: float, note: str = "", now: str = "", top: str = ""
) -> str:
    """One arc: a line, a wider invisible one for the pointer, and what it is in a tooltip.

    Args:
        i: number of the skip.
        skip: the skip.
        strip: where things are.
        classes: what a style sheet knows it by.
        stroke: width of the line, px.
        note: more of what it is.
        now: a line of what was measured, for the tooltip alone: a page's script writes its own.
        top: markup that goes on its crown.
    """
    tip = f"{clean(skip.name) or ROOT}\n{about(skip)}{'; ' + note if note else ''}"
    path = strip.path(i, skip)
    return (
        f'<g class="arc {classes}" data-i="{i}" data-tip="{xml(tip)}">{_title(tip, now)}'
        f'<path class="hit" d="{path}"/><path class="line" d="{path}" stroke-width="{stroke:.2f}"/>{top}</g>'
    )


def cell(
    i: int, layer: Layer, strip: Strip, *, classes: str = "", note: str = "", now: str = "", more: str = ""
) -> str:
    """One layer of the strip; ``more`` is markup that belongs to it. The rest as in `arc`."""
    x, w = inside(i, strip)
    made = f", returns {sizes(layer.out_shape)}" if layer.out_shape else ""
    tip = f"{clean(layer.name)}\nlayer {i}: {layer.op}{made}{'; ' + note if note else ''}"
    return (
        f'<g class="cell" data-i="{i}" data-tip="{xml(tip)}">{_title(tip, now)}'
        f'<rect class="layer {classes}" x="{x:.1f}" y="{strip.base:.1f}" width="{w:.1f}" height="{BAND}"/>{more}</g>'
    )


def inside(i: int, strip: Strip) -> tuple[float, float]:
    """Left edge and width of layer ``i`` without the gap to its neighbours."""
    gap = min(2.0, strip.cell * 0.2)
    return strip.x(i) + gap / 2, strip.cell - gap


def stage_marks(layers: Sequence[Layer], strip: Strip, top: float, bottom: float) -> list[str]:
    """Every other stage shaded from ``top`` to ``bottom``, and its name below where there is room."""
    out: list[str] = []
    for k, stage in enumerate(stages(layers)):
        x, w = strip.x(stage.start), strip.cell * len(stage)
        if k % 2 == 0:
            out.append(f'<rect class="stage" x="{x:.1f}" y="{top:.1f}" width="{w:.1f}" height="{bottom - top:.1f}"/>')
        name = fitted(stage, w)
        if name:
            out.append(
                f'<text class="name" x="{x + w / 2:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{xml(name)}</text>'
            )
    return out


def fitted(stage: Group, width: float) -> str:
    """As much of a stage's name as its width holds, rather its end; empty where that is less than five letters."""
    name, room = clean(stage.name), int((width - 8) / LETTER)
    if len(name) <= room:
        return name
    return "…" + name[1 - room :] if room >= 5 else ""


def _title(tip: str, now: str) -> str:
    return "<title>" + xml(f"{tip}\n{now}" if now else tip) + "</title>"


def _air(cell: float) -> float:
    return min(1.5, 0.1 * cell)


def _length(skip: Skip) -> float:
    return max(skip.end - skip.start, 0.5)  # a skip over nothing that counts as a layer is drawn all the same


def _holds(outer: tuple[float, float], inner: tuple[float, float]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]
