"""A claim's picture as SVG. Colours are the page's variables, which follow light and dark; dashes tell series too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import median

from skipgrad.core.units import number
from skipgrad.lab.contour import contour_svg
from skipgrad.lab.picture import Picture, Point

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 300, 64, 44, 16
COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")
DASHES = ("", "6 4", "2 3", "9 3 2 3")


def svg(picture: Picture, title: str) -> str:
    """The picture; points that are not finite are left out, and said so in its description."""
    if picture.kind == "contour":
        return contour_svg(picture, title)
    shown = [p for p in picture.points if math.isfinite(p.y) and (p.y > 0 or not picture.log_y)]
    if not shown:
        return ""
    low, high = _range([p.y for p in shown] + ([picture.bound] if picture.bound else []), picture.log_y)

    def y(value: float) -> float:
        return _place(value, low, high, picture.log_y, HEIGHT - BOTTOM, TOP)

    left_out = len(picture.points) - len(shown)
    told = f"{title}: {picture.y}" + (f"; {left_out} points are not finite, or not above zero" if left_out else "")
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(told, quote=True)}">']
    for tick in _ticks(low, high, picture.log_y):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="rule"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{escape(number(tick))}</text>')
    if picture.bound is not None and low <= picture.bound <= high:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(picture.bound):.1f}" y2="{y(picture.bound):.1f}" '
            f'class="bound"/>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">'
        f"{escape(picture.y)}</text>"
    )
    parts += _dots(shown, y) if picture.kind == "dots" else _lines(shown, picture, y)
    parts.append("</svg>")
    return "\n".join(parts)


def legend(picture: Picture) -> list[tuple[str, str]]:
    """(mark, words) for each thing in the picture, for a list below it; a contour says all of itself."""
    if picture.kind == "contour":
        return []
    names = list(dict.fromkeys(p.series for p in picture.points))
    if picture.kind == "dots":
        return [(str(i + 1), n) for i, n in enumerate(names)]
    mark = '<svg viewBox="0 0 30 8" class="key"><line x1="0" x2="30" y1="4" y2="4" stroke="{}" stroke-width="2.5" '
    mark += 'stroke-dasharray="{}"/></svg>'
    return [(mark.format(COLOURS[i % 4], DASHES[i % 4]), n) for i, n in enumerate(names)]


def _dots(points: Sequence[Point], y) -> list[str]:  # type: ignore[no-untyped-def]
    names = list(dict.fromkeys(p.series for p in points))
    wide = (WIDTH - LEFT - 8) / len(names)
    parts = []
    for i, name in enumerate(names):
        at = LEFT + wide * (i + 0.5)
        mine = [p for p in points if p.series == name]
        centre = median(p.y for p in mine)
        parts.append(
            f'<line x1="{at - 18:.1f}" x2="{at + 18:.1f}" y1="{y(centre):.1f}" y2="{y(centre):.1f}" class="median"/>'
        )
        for k, p in enumerate(sorted(mine, key=lambda p: p.seed)):
            x = at + 9 * (k - (len(mine) - 1) / 2)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y(p.y):.1f}" r="4.5" fill="var(--a)"><title>{escape(name)}, seed {p.seed}: '
                f"{escape(number(p.y))}</title></circle>"
            )
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{i + 1}</text>')
    return parts


def _lines(points: Sequence[Point], picture: Picture, y) -> list[str]:  # type: ignore[no-untyped-def]
    xs = [float(p.x) for p in points]
    low, high = _range(xs, picture.log_x, room=False)

    def x(value: float) -> float:
        return _place(value, low, high, picture.log_x, LEFT + 6, WIDTH - 14)

    parts = []
    for tick in _ticks(low, high, picture.log_x):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{escape(number(tick))}</text>'
        )
    parts.append(f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(picture.x)}</text>')
    for i, name in enumerate(dict.fromkeys(p.series for p in points)):
        for seed in dict.fromkeys(p.seed for p in points):
            run = sorted((float(p.x), p.y) for p in points if p.series == name and p.seed == seed)
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in run)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{COLOURS[i % 4]}" stroke-width="2" '
                f'stroke-dasharray="{DASHES[i % 4]}"><title>{escape(name)}, seed {seed}</title></polyline>'
            )
    return parts


def _range(values: Sequence[float], log: bool, room: bool = True) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return (low / 2, high * 2) if room else (low, high)
    if room:
        low, high = min(low, 0.0) if low > 0 and low < 0.5 * high else low, high
        pad = 0.06 * ((high - low) or abs(high) or 1)
        return low - (pad if low else 0), high + pad
    return (low, high) if high > low else (low - 1, high + 1)


def _place(value: float, low: float, high: float, log: bool, begin: float, end: float) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return begin + (value - low) / ((high - low) or 1) * (end - begin)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        decades = [10.0**k for k in range(first, last + 1, max(1, math.ceil((last - first + 1) / 7)))]
        return decades if len(decades) > 1 else [low, high]
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= 6)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
