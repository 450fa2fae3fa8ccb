"""A network as a strip from input to output, with an arc for every skip over the layers it bypasses.

Channels, one meaning each: an arc's place is what it bypasses, its width the skip's share of the gradient, its colour
the severity of the findings that name it (a mark on its top repeats it in shape); a bar's height is the gradient that
reaches a layer, on a log scale; the shading is the stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from skipgrad.core import Layer, Skip, SkipGraph
from skipgrad.report.subjects import share
from skipgrad.report.text import clean, figure

WIDTH = 1088  # what the page gives it at 1280 px; long nets grow past it and scroll
LEFT, RIGHT, TOP = 46, 14, 12
NARROWEST_LAYER = 5.0
BAND, BARS, LABELS = 14, 84, 20
HIGHEST_ARC = 190.0
THINNEST = 0.75
# Beyond this many arcs nesting is told by length alone: comparing every pair would take too long.
MOST_NESTED = 1500

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
    standalone: bool = True,
) -> str:
    """The SVG of a graph, with or without measurements.

    Args:
        graph: what to draw.
        skip_norms: ‖S‖ per skip, in the graph's order, None where not measured (a dashed arc); without them all arcs
            are solid and equally wide.
        branch_norms: ‖B‖ per skip.
        gradients: ‖dL/dz‖ per layer; without them the bars are left out.
        severity: gravest severity and codes of the findings, by name of skip or layer.
        scale: the bars' axis; of these gradients when not given.
        label: what it is, for screen readers.
        standalone: brings its own style; the report's page has it once for all.
    """
    severity = severity or {}
    n = max(1, len(graph.layers), max((s.end for s in graph.skips), default=0))
    cell = max(NARROWEST_LAYER, (WIDTH - LEFT - RIGHT) / n)
    width = LEFT + RIGHT + cell * n
    heights = arc_heights(graph.skips, cell)
    base = TOP + (max(heights, default=0) + 10 if heights else 2)
    scale = scale or Scale.of(gradients)
    floor = base + BAND + (8 + BARS if scale else 0)
    height = floor + LABELS
    widest = arc_width(graph.skips, cell)

    out = [
        f'<svg class="sg-strip" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{_text(label or graph.model or "network")}" '
        f'data-widest="{widest:.2f}" data-floor="{floor:.1f}" data-bars="{BARS}">'
    ]
    if standalone:
        out.append(f"<style>{STYLE}</style>")
    out += _stages(graph.layers, cell, floor)
    if scale:
        out += _axis(scale, floor, width)
    out.append(f'<text x="{LEFT - 6}" y="{base + BAND - 3:.1f}" text-anchor="end">input</text>')
    for i, layer in enumerate(graph.layers):
        out.append(_layer(i, layer, gradients[i] if i < len(gradients) else None, severity, cell, base, floor, scale))
    # Long arcs first, so that short ones, which lie below them, stay reachable by the pointer.
    for i in sorted(range(len(graph.skips)), key=lambda i: -heights[i]):
        s = skip_norms[i] if i < len(skip_norms) else None
        b = branch_norms[i] if i < len(branch_norms) else None
        # Nothing is missing from a drawing that was asked for without measurements: its arcs are solid.
        bare = standalone and not skip_norms
        out.append(_arc(i, graph.skips[i], s, b, severity, heights[i], cell, base, widest, bare))
    out.append("</svg>")
    return "".join(out)


def arc_heights(skips: Sequence[Skip], cell: float) -> list[float]:
    """Height of each arc: an arc lies above all that it holds, and a longer one above a shorter one of its level."""
    levels = [1] * len(skips)
    if len(skips) <= MOST_NESTED:
        order = sorted(range(len(skips)), key=lambda i: (skips[i].end - skips[i].start, i))
        for place, i in enumerate(order):
            inner = (j for j in order[:place] if skips[i].start <= skips[j].start and skips[j].end <= skips[i].end)
            levels[i] = 1 + max((levels[j] for j in inner), default=0)
    raw = [22 * level + 2.2 * math.sqrt(cell * max(1, s.end - s.start)) for level, s in zip(levels, skips, strict=True)]
    top = max(raw, default=0.0)
    return raw if top <= HIGHEST_ARC else [h * HIGHEST_ARC / top for h in raw]


def arc_width(skips: Sequence[Skip], cell: float) -> float:
    """Width of an arc through which all the gradient comes; narrow arcs must not close up."""
    spans = sorted(max(1, s.end - s.start) for s in skips)
    return min(8.0, max(3.0, 0.24 * cell * spans[len(spans) // 2])) if spans else 8.0


def _arc(
    i: int,
    skip: Skip,
    s: float | None,
    b: float | None,
    severity: Mapping[str, tuple[str, tuple[str, ...]]],
    height: float,
    cell: float,
    base: float,
    widest: float,
    bare: bool,
) -> str:
    x0, x1 = LEFT + cell * skip.start, LEFT + cell * max(skip.end, skip.start + 0.5)
    # A little air between the feet of neighbours.
    inset = min(1.5, 0.1 * (x1 - x0))
    x0, x1 = x0 + inset, x1 - inset
    top = base - height / 0.75  # a cubic rises to three quarters of its handles
    path = f"M{x0:.1f},{base:.1f}C{x0:.1f},{top:.1f} {x1:.1f},{top:.1f} {x1:.1f},{base:.1f}"
    level, codes = severity.get(skip.name, ("", ()))
    part = share(s, b) if s is not None and b is not None else None
    thickness = THINNEST + (part or 0) * (widest - THINNEST) if part is not None else 1.8 if bare else 1.0
    about = f"{skip.kind}, {skip.shortcut} shortcut over {skip.span} weighted layers"
    about = f"{'long ' if skip.long else ''}{about}{'; ' + ', '.join(codes) if codes else ''}"
    tip = f"{clean(skip.name) or 'the model itself'}\n{about}"
    now = f"share of the gradient {figure(100 * part)} %" if part is not None else "not measured"
    dashed = "" if bare or part is not None else " unmeasured"
    mark = ""
    if level in _MARKS:
        mark = (
            f'<path class="mark" transform="translate({(x0 + x1) / 2:.1f},{base - height:.1f})" d="{_MARKS[level]}"/>'
        )
    return (
        f'<g class="arc {level}{dashed}" data-i="{i}" data-tip="{_text(tip)}">'
        f"<title>{_text(tip)}\n{_text(now)}</title>"
        f'<path class="hit" d="{path}"/><path class="line" d="{path}" stroke-width="{thickness:.2f}"/>{mark}</g>'
    )


def _layer(
    i: int,
    layer: Layer,
    gradient: float | None,
    severity: Mapping[str, tuple[str, tuple[str, ...]]],
    cell: float,
    base: float,
    floor: float,
    scale: Scale | None,
) -> str:
    gap = min(2.0, cell * 0.2)
    x, w = LEFT + cell * i + gap / 2, cell - gap
    level, codes = severity.get(layer.name, ("", ()))
    shape = "×".join(map(str, layer.out_shape))
    tip = f"{clean(layer.name)}\nlayer {i}: {layer.op}{', returns ' + shape if shape else ''}"
    tip += f"; {', '.join(codes)}" if codes else ""
    bar = mark = ""
    if level in _MARKS:
        at = f"translate({x + w / 2:.1f},{base + BAND / 2:.1f}) scale({min(0.7, w / 12):.2f})"
        mark = f'<path class="inner" transform="{at}" d="{_MARKS[level]}"/>'
    if scale:
        h = BARS * scale.height(gradient)
        bar = f'<rect class="bar" x="{x:.1f}" y="{floor - h:.1f}" width="{w:.1f}" height="{h:.1f}"/>'
    now = f"\n‖dL/dz‖ {figure(gradient)}" if gradient is not None else ""
    return (
        f'<g class="cell" data-i="{i}" data-tip="{_text(tip)}"><title>{_text(tip + now)}</title>'
        f'<rect class="layer {level}" x="{x:.1f}" y="{base:.1f}" width="{w:.1f}" height="{BAND}"/>{mark}{bar}</g>'
    )


def _stages(layers: Sequence[Layer], cell: float, floor: float) -> list[str]:
    """Every other stage shaded, and its name where there is room."""
    out: list[str] = []
    x = float(LEFT)
    for k, (stage, members) in enumerate(groupby(layers, key=lambda layer: layer.stage)):
        w = cell * len(list(members))
        name = clean(stage)
        if k % 2 == 0:
            out.append(f'<rect class="stage" x="{x:.1f}" y="0" width="{w:.1f}" height="{floor:.1f}"/>')
        room = int((w - 4) / 6.0)  # characters of 11 px that fit
        if len(name) > room:
            name = "…" + name[1 - room :] if room >= 5 else ""
        if name:
            out.append(f'<text x="{x + w / 2:.1f}" y="{floor + 14:.1f}" text-anchor="middle">{_text(name)}</text>')
        x += w
    return out


def _axis(scale: Scale, floor: float, width: float) -> list[str]:
    """Three powers of ten beside the bars."""
    out = []
    for power in dict.fromkeys((scale.low, round((scale.low + scale.high) / 2), scale.high)):
        y = floor - BARS * (power - scale.low) / (scale.high - scale.low)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        name = {0: "1", 1: "10"}.get(power, figure(10.0**power, 1) if abs(power) > 3 else f"{10.0**power:g}")
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    return out


def _text(text: str) -> str:
    return escape(clean(text), quote=True)
