"""A map of heights as SVG, by contourpy, and what a page needs to show it as a surface."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import contourpy
import numpy as np

from skipgrad.core.units import number
from skipgrad.lab.picture import Picture

SIDE, LEFT, TOP, BELOW, BETWEEN, BAR = 250, 58, 30, 46, 44, 34
LEVELS = 9
# From dark to light, in steps that eyes of every kind and grey print tell apart (cividis, ColorBrewer's advice).
RAMP = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")


@dataclass(frozen=True)
class Heights:
    """The map of one series.

    Attributes:
        name: of the series.
        xs, ys: the places.
        z: (len(ys), len(xs)) heights; NaN where one was not finite.
    """

    name: str
    xs: np.ndarray
    ys: np.ndarray
    z: np.ndarray


def heights(picture: Picture) -> list[Heights]:
    """The maps of a picture, a series each."""
    maps = []
    for name in dict.fromkeys(p.series for p in picture.points):
        mine = {(float(p.x), p.y): p.z for p in picture.points if p.series == name}
        xs, ys = sorted({x for x, _ in mine}), sorted({y for _, y in mine})
        z = np.array([[mine.get((x, y), math.nan) for x in xs] for y in ys])
        maps.append(Heights(name, np.array(xs), np.array(ys), np.where(np.isfinite(z), z, np.nan)))
    return [m for m in maps if len(m.xs) > 1 and len(m.ys) > 1 and np.isfinite(m.z).any()]


def levels(maps: Sequence[Heights]) -> list[float]:
    """Heights at which lines are drawn, the same for all maps: in equal ratios where they span a factor of twenty."""
    values = np.concatenate([m.z[np.isfinite(m.z)] for m in maps])
    low, high = float(values.min()), float(values.max())
    if low == high:
        return [low]
    if low > 0 and high / low > 20:
        inner = np.geomspace(low, high, LEVELS + 2)[1:-1]
    else:
        inner = np.linspace(low, high, LEVELS + 2)[1:-1]
    return [float(v) for v in inner]


def contour_svg(picture: Picture, title: str) -> str:
    """The maps side by side, their lines labelled, one key for all; empty where nothing is finite."""
    maps = heights(picture)
    if not maps:
        return ""
    lines = levels(maps)
    wide = LEFT + len(maps) * (SIDE + BETWEEN) + BAR + 56
    high = TOP + SIDE + BELOW
    lost = sum(int(np.isnan(m.z).sum()) for m in maps)
    told = f"{title}: {picture.z} over {picture.x} and {picture.y}" + (
        f"; {lost} points are not finite" if lost else ""
    )
    frame = json.dumps({"left": LEFT, "top": TOP, "side": SIDE, "between": BETWEEN})  # for the page's script
    parts = [
        f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(told, quote=True)}" class="contour" '
        f"data-frame='{frame}'>"
    ]
    for i, m in enumerate(maps):
        parts += _map(m, lines, LEFT + i * (SIDE + BETWEEN), picture, named=i == 0)
    parts += _key(lines, LEFT + len(maps) * (SIDE + BETWEEN), picture.z)
    return "\n".join([*parts, "</svg>"])


def surface_data(picture: Picture) -> str:
    """The maps as JSON for the page's script, with the colour of each point; safe inside a script element."""
    maps = heights(picture)
    lines = levels(maps) if maps else []
    data = [
        {
            "name": m.name,
            "xs": m.xs.tolist(),
            "ys": m.ys.tolist(),
            "z": [[None if math.isnan(v) else float(v) for v in row] for row in m.z],
        }
        for m in maps
    ]
    said = {"maps": data, "levels": lines, "ramp": RAMP, "x": picture.x, "y": picture.y, "z": picture.z}
    return json.dumps(said, allow_nan=False).replace("<", "\\u003c")


def _map(m: Heights, lines: Sequence[float], left: float, picture: Picture, *, named: bool) -> list[str]:
    def at(x: float, y: float) -> tuple[float, float]:
        right = (x - m.xs[0]) / (m.xs[-1] - m.xs[0])
        up = (y - m.ys[0]) / (m.ys[-1] - m.ys[0])
        return left + SIDE * float(right), TOP + SIDE * (1 - float(up))

    maker: Any = contourpy.contour_generator(
        m.xs, m.ys, np.ma.masked_invalid(m.z), fill_type="OuterCode", line_type="Separate"
    )
    edges = [-math.inf, *lines, math.inf]
    parts = [
        f'<text x="{left + SIDE / 2:.0f}" y="{TOP - 10}" text-anchor="middle" class="name">{escape(m.name)}</text>'
    ]
    for k in range(len(edges) - 1):
        areas, codes = maker.filled(edges[k], edges[k + 1])
        for area, code in zip(areas, codes, strict=True):
            path = " ".join(
                {1: "M", 2: "L", 79: "L"}[int(c)] + f"{at(x, y)[0]:.1f},{at(x, y)[1]:.1f}" + ("Z" if c == 79 else "")
                for (x, y), c in zip(area, code, strict=True)
            )
            parts.append(f'<path d="{path}" fill="{RAMP[k]}" fill-rule="evenodd"/>')
    for k, level in enumerate(lines):
        found = maker.lines(level)
        for line in found:
            path = " ".join(f"{at(x, y)[0]:.1f},{at(x, y)[1]:.1f}" for x, y in line)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{"#fff" if k < 5 else "#111"}" stroke-width=".7">'
                f"<title>{escape(picture.z)} {number(level)}</title></polyline>"
            )
    centre = at(0.0, 0.0)
    if m.xs[0] <= 0 <= m.xs[-1] and m.ys[0] <= 0 <= m.ys[-1]:
        parts.append(
            f'<path d="M{centre[0] - 6:.1f},{centre[1]:.1f}h12M{centre[0]:.1f},{centre[1] - 6:.1f}v12" stroke="#fff" '
            'stroke-width="2"><title>the trained weights</title></path>'
        )
    for tick in (float(m.xs[0]), 0.5 * float(m.xs[0] + m.xs[-1]), float(m.xs[-1])):
        parts.append(
            f'<text x="{at(tick, m.ys[0])[0]:.1f}" y="{TOP + SIDE + 16}" text-anchor="middle">{number(tick)}</text>'
        )
    parts.append(
        f'<text x="{left + SIDE / 2:.0f}" y="{TOP + SIDE + 36}" text-anchor="middle">{escape(picture.x)}</text>'
    )
    if named:
        for tick in (float(m.ys[0]), 0.5 * float(m.ys[0] + m.ys[-1]), float(m.ys[-1])):
            parts.append(
                f'<text x="{left - 6}" y="{at(m.xs[0], tick)[1] + 4:.1f}" text-anchor="end">{number(tick)}</text>'
            )
        middle = TOP + SIDE / 2
        parts.append(
            f'<text x="14" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 14 {middle:.0f})">'
            f"{escape(picture.y)}</text>"
        )
    return parts


def _key(lines: Sequence[float], left: float, title: str) -> list[str]:
    step = SIDE / (len(lines) + 1)
    parts = [f'<text x="{left + BAR / 2:.0f}" y="{TOP - 10}" text-anchor="middle">{escape(title)}</text>']
    for k in range(len(lines) + 1):
        parts.append(
            f'<rect x="{left}" y="{TOP + SIDE - (k + 1) * step:.1f}" width="{BAR - 16}" height="{step:.1f}" '
            f'fill="{RAMP[k]}"/>'
        )
    for k, level in enumerate(lines):
        parts.append(f'<text x="{left + BAR - 10}" y="{TOP + SIDE - (k + 1) * step + 4:.1f}">{number(level)}</text>')
    return parts
