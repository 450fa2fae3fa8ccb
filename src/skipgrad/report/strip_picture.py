"""The strip of a measured network: what was measured, on the drawing that every graph has (`core.draw.strip`).

Channels, one meaning each: an arc's place is what it bypasses, its width the skip's share of the gradient, its colour
the severity of the findings that name it (a mark on its top repeats it in shape); a bar's height is the gradient that
reaches a layer, on a log scale; the shading is the stage. A drawing without measurements is `core.draw.svg`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skipgrad.core import Layer, Skip, SkipGraph
from skipgrad.core.draw.strip import BAND, LEFT, RIGHT, Strip, arc, cell, inside, stage_marks
from skipgrad.core.draw.words import xml
from skipgrad.report.subjects import share
from skipgrad.report.text import figure

TOP = 12
BARS, LABELS = 84, 20
THINNEST = 0.75

STYLE = """
.sg-strip{font:11px system-ui,sans-serif;--n:var(--sg-neutral,#7d93a8);--i:var(--sg-info,#2b7bba);\
--w:var(--sg-warning,#c98500);--e:var(--sg-error,#9c2a84);--t:var(--sg-soft,#6b7480)}
.sg-strip text{fill:var(--t)}.sg-strip .stage{fill:var(--t);opacity:.09}.sg-strip .layer{fill:var(--n);opacity:.55}
.sg-strip .bar{fill:var(--n)}.sg-strip .grid{stroke:var(--t);opacity:.25}
.sg-strip .line{fill:none;stroke:var(--n)}.sg-strip .hit{fill:none;stroke:transparent;stroke-width:9}
.sg-strip .unmeasured .line{stroke-dasharray:3 3}
.sg-strip .info .line{stroke:var(--i)}.sg-strip .warning .line{stroke:var(--w)}.sg-strip .error .line{stroke:var(--e)}
.sg-strip .layer.info,.sg-strip .info .mark{fill:var(--i);opacity:1}
.sg-strip .layer.warning,.sg-strip .warning .mark{fill:var(--w);opacity:1}
.sg-strip .layer.error,.sg-strip .error .mark{fill:var(--e);opacity:1}
.sg-strip .mark{stroke:var(--sg-paper,#fff);stroke-width:2.5;paint-order:stroke}
.sg-strip .inner{fill:var(--sg-paper,#fff)}
.sg-strip .arc:hover .line{stroke:var(--sg-ink,#1d2129)}.sg-strip .cell:hover .bar{fill:var(--sg-ink,#1d2129)}
""".strip()

_MARKS = {  # shapes around (0, 0)
    "error": "M0,-5.5L5,0L0,5.5L-5,0Z",
    "warning": "M0,-5L5,4H-5Z",
    "info": "M0,-4A4,4 0 1 0 0.01,-4Z",
}


@dataclass(frozen=True)
class Scale:
    """The log axis of the bars, in powers of ten; shared by the strips that are compared."""

    low: int
    high: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Scale | None:
        """The whole decades that hold the positive values; None when there are none."""
        logs = [math.log10(v) for v in values if v is not None and v > 0]
        if not logs:
            return None
        low, high = math.floor(min(logs)), math.ceil(max(logs))
        return cls(low - 1 if low == min(logs) else low, max(high, low + 1))

    def height(self, value: float | None) -> float:
        """Height of a bar as a share of the axis; 0 for what is no positive number."""
        if value is None or value <= 0:
            return 0.0
        return min(1.0, max(0.02, (math.log10(value) - self.low) / (self.high - self.low)))


def strip_svg(
    graph: SkipGraph,
    *,
    skip_norms: Sequence[float | None] = (),
    branch_norms: Sequence[float | None] = (),
    gradients: Sequence[float | None] = (),
    severity: Mapping[str, tuple[str, tuple[str, ...]]] | None = None,
    scale: Scale | None = None,
    label: str = "",
) -> str:
    """The SVG of a graph with what was measured. Its style is `STYLE`, which the page has once for all.

    Args:
        graph: what to draw.
        skip_norms: ‖S‖ per skip, in the graph's order, None where not measured (a dashed arc).
        branch_norms: ‖B‖ per skip.
        gradients: ‖dL/dz‖ per layer; without them the bars are left out.
        severity: gravest severity and codes of the findings, by name of skip or layer.
        scale: the bars' axis; of these gradients when not given.
        label: what it is, for screen readers.
    """
    severity = severity or {}
    strip = Strip.of(graph, TOP)
    scale = scale or Scale.of(gradients)
    floor = strip.base + BAND + (8 + BARS if scale else 0)
    height = floor + LABELS
    widest = arc_width(graph.skips, strip.cell)
    name = label or graph.model or "network"

    out = [
        f'<svg class="sg-strip" xmlns="http://www.w3.org/2000/svg" width="{strip.width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {strip.width:.0f} {height:.0f}" role="img" aria-label="{xml(name)}" '
        f'data-widest="{widest:.2f}" data-floor="{floor:.1f}" data-bars="{BARS}">'
    ]
    out += stage_marks(graph.layers, strip, 0, floor)
    if scale:
        out += _axis(scale, floor, strip.width)
    out.append(f'<text x="{LEFT - 6}" y="{strip.base + BAND - 3:.1f}" text-anchor="end">input</text>')
    for i, layer in enumerate(graph.layers):
        gradient = gradients[i] if i < len(gradients) else None
        out.append(_layer(i, layer, strip, gradient, severity.get(layer.name, ("", ())), floor, scale))
    # Long arcs first, so that short ones, which lie below them, stay reachable by the pointer.
    for i in sorted(range(len(graph.skips)), key=lambda i: -strip.heights[i]):
        s = skip_norms[i] if i < len(skip_norms) else None
        b = branch_norms[i] if i < len(branch_norms) else None
        part = share(s, b) if s is not None and b is not None else None
        skip = graph.skips[i]
        out.append(_arc(i, skip, strip, part, severity.get(skip.name, ("", ())), widest))
    out.append("</svg>")
    return "".join(out)


def arc_width(skips: Sequence[Skip], cell: float) -> float:
    """Width of an arc through which all the gradient comes; narrow arcs must not close up."""
    spans = sorted(max(1, s.end - s.start) for s in skips)
    return min(8.0, max(3.0, 0.24 * cell * spans[len(spans) // 2])) if spans else 8.0


def _arc(
    i: int, skip: Skip, strip: Strip, part: float | None, named: tuple[str, tuple[str, ...]], widest: float
) -> str:
    level, codes = named
    x, y = strip.crown(i, skip)
    mark = f'<path class="mark" transform="translate({x:.1f},{y:.1f})" d="{_MARKS[level]}"/>' if level in _MARKS else ""
    return arc(
        i,
        skip,
        strip,
        classes=level if part is not None else f"{level} unmeasured",
        stroke=THINNEST + part * (widest - THINNEST) if part is not None else 1.0,
        note=", ".join(codes),
        now=f"share of the gradient {figure(100 * part)} %" if part is not None else "not measured",
        top=mark,
    )


def _layer(
    i: int,
    layer: Layer,
    strip: Strip,
    gradient: float | None,
    named: tuple[str, tuple[str, ...]],
    floor: float,
    scale: Scale | None,
) -> str:
    level, codes = named
    x, w = inside(i, strip)
    more = ""
    if level in _MARKS:
        at = f"translate({x + w / 2:.1f},{strip.base + BAND / 2:.1f}) scale({min(0.7, w / 12):.2f})"
        more = f'<path class="inner" transform="{at}" d="{_MARKS[level]}"/>'
    if scale:
        h = BARS * scale.height(gradient)
        more += f'<rect class="bar" x="{x:.1f}" y="{floor - h:.1f}" width="{w:.1f}" height="{h:.1f}"/>'
    now = f"‖dL/dz‖ {figure(gradient)}" if gradient is not None else ""
    return cell(i, layer, strip, classes=level, note=", ".join(codes), now=now, more=more)


def _axis(scale: Scale, floor: float, width: float) -> list[str]:
    """Three powers of ten beside the bars."""
    out = []
    for power in dict.fromkeys((scale.low, round((scale.low + scale.high) / 2), scale.high)):
        y = floor - BARS * (power - scale.low) / (scale.high - scale.low)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        name = {0: "1", 1: "10"}.get(power, figure(10.0**power, 1) if abs(power) > 3 else f"{10.0**power:g}")
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    return out
