"""What an experiment's figures look like: plain data, which the gallery draws. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Point:
    """One mark: what is compared (or the place on the x axis), the series, the value, the seed.

    In a contour ``x`` and ``y`` are the place, and ``z`` is the value.
    """

    x: str | float
    series: str
    y: float
    seed: int
    z: float = 0.0


@dataclass(frozen=True)
class Picture:
    """A figure of a claim.

    Attributes:
        kind: ``"dots"``: a column of dots for each thing compared, one a seed, with their median; ``"lines"``: a line
            for each series over a number; ``"contour"``: a map of heights for each series, which a page also shows as
            a surface to turn.
        points: the marks.
        x: title of the x axis; empty where the things compared say it themselves.
        y: title of the y axis, with the unit.
        log_x, log_y: logarithmic axes.
        bound: a value of y that the criterion names; None for none.
        z: title of the heights of a contour, with the unit.
    """

    kind: Literal["dots", "lines", "contour"]
    points: tuple[Point, ...]
    y: str
    x: str = ""
    log_x: bool = False
    log_y: bool = False
    bound: float | None = None
    z: str = ""


def dots(figures: Sequence[Any], names: Iterable[str], y: str, **options: Any) -> Picture:
    """A column of dots for each of some figures."""
    points = tuple(Point(n, n, f.values[n], f.seed) for n in names for f in figures if n in f.values)
    return Picture("dots", points, y, **options)


def lines(figures: Sequence[Any], prefixes: Iterable[str], x: str, y: str, **options: Any) -> Picture:
    """A line for each prefix, over the number that follows it: ``"loss at λ=0.5"`` is at .5 of ``"loss at λ="``."""
    points = tuple(
        Point(float(name.removeprefix(p).split()[0]), p.strip(" =,:"), value, f.seed)
        for p in prefixes
        for f in figures
        for name, value in f.values.items()
        if name.startswith(p)
    )
    return Picture("lines", points, y, x, **options)


def contours(figures: Sequence[Any], prefixes: Iterable[str], x: str, y: str, z: str) -> Picture:
    """A map for each prefix, of the first seed: ``"loss over x=0.5 y=-1"`` is at (.5, −1) of ``"loss over "``."""
    points = tuple(
        Point(place[0], p.removesuffix(" over "), place[1], f.seed, value)
        for p in prefixes
        for f in figures[:1]
        for name, value in f.values.items()
        if name.startswith(p)
        for place in [[float(part.split("=")[1]) for part in name.removeprefix(p).split()]]
    )
    return Picture("contour", points, y, x, z=z)


def drawn_only(picture: Picture, name: str) -> bool:
    """Whether a figure is one of a contour's points, which are too many for a table."""
    return picture.kind == "contour" and " over x=" in name
