"""The figures of the page as Vega-Lite specifications, which refer to data by name so that it is embedded only once.

Colours are the page's CSS variables where a mark has one colour: the figures then follow light and dark by themselves.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import altair as alt

from skipgrad.report.depth import DepthCurves
from skipgrad.report.heat import HeatMap
from skipgrad.report.losses import LossCurves
from skipgrad.report.paths import AFTER, BEFORE, PathCurves

PATIENT = "var(--patient)"
# The winner first; no two of them red and green, and each has its own dash as well.
CURES = ("var(--cured)", "var(--other-1)", "var(--other-2)", "var(--other-3)")
DASHES = ([1, 0], [1, 0], [6, 3], [2, 3], [8, 3, 2, 3])

_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--rule)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 12,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "orient": "top",
        "direction": "horizontal",
        "labelLimit": 220,
        "symbolSize": 220,
        "symbolStrokeWidth": 2,
    },
}
# 10 with its power raised; Vega's own formats stop at 1e-12.
_POWER = "'10' + " + reduce(
    lambda text, pair: f"replace({text}, regexp('{pair[0]}', 'g'), '{pair[1]}')",
    zip("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True),
    "toString(round(log(datum.value) / LN10))",
)
HEAT_SCHEME = "cividis"  # made for eyes that do not tell red from green


def charts(
    depth: DepthCurves, heat: HeatMap | None, losses: LossCurves, paths: PathCurves
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Specifications by the place they go to, and datasets by name."""
    specs: dict[str, alt.TopLevelMixin] = {}
    data: dict[str, Any] = {}
    if depth.points:
        low, high = _domain(depth)
        specs["depth"] = _depth(depth, low, high)
        data["depth"] = depth.points
        data["floor"] = [{**f, "floor": max(f["floor"], low), "low": low} for f in depth.floor]
    if heat is not None and any(c["S"] is not None or c["B"] is not None for c in heat.cells):
        for letter in "SB":
            specs[f"heat-{letter}"] = _heat(heat, letter)
        data["heat"] = heat.cells
    if losses.points:
        for axis in ("step", "seconds"):
            specs[f"loss-{axis}"] = _loss(losses, axis)
        data["losses"] = losses.points
    if paths.points:
        specs["paths-share"] = _paths(paths, "share", "signed", "share of the gradient, ⟨c_k, g⟩ / ‖g‖²")
        specs["paths-norm"] = _paths(paths, "norm", "unsigned", "share of the norms, ‖c_k‖ / Σ‖c_k‖")
        data["paths"] = paths.points
        data["path-means"] = [m for m in paths.means if m["unsigned"] is not None]
    out = {}
    for name, chart in specs.items():
        spec = chart.to_dict()
        spec["config"] = _CONFIG
        out[name] = spec
    return out, data


def _domain(depth: DepthCurves) -> tuple[float, float]:
    values = [p["norm"] for p in depth.points] + [f["floor"] for f in depth.floor]
    return max(min(values) / 3, 1e-300), min(max(values) * 3, 1e300)


def _depth(depth: DepthCurves, low: float, high: float) -> alt.TopLevelMixin:
    who = list(dict.fromkeys(p["who"] for p in depth.points))
    when = list(dict.fromkeys(p["when"] for p in depth.points))
    x = alt.X("depth:Q", title="depth: layers in order of execution, input at the left", axis=alt.Axis(grid=False))
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    lines = (
        alt.Chart(alt.NamedData(name="depth"))
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=x,
            y=alt.Y(
                "norm:Q",
                scale=scale,
                title=f"{depth.quantity}, L2 norm over the layer",
                axis=alt.Axis(labelExpr=_POWER, values=_decades(low, high)),
            ),
            color=alt.Color("who:N", title=None, scale=alt.Scale(domain=who, range=[PATIENT, CURES[0]][: len(who)])),
            strokeDash=alt.StrokeDash(
                "when:N", title=None, scale=alt.Scale(domain=when, range=[[4, 4], [1, 0]][-len(when) :])
            ),
        )
    )
    tooltips = [
        alt.Tooltip("layer:N"),
        alt.Tooltip("who:N", title="net"),
        alt.Tooltip("when:N", title="at"),
        alt.Tooltip("norm:Q", title=depth.quantity, format=".3e"),
    ]
    hover = _hover("depth").encode(x=x, y=alt.Y("norm:Q", scale=scale), tooltip=tooltips)
    layers: list[alt.Chart] = []
    if depth.floor:
        layers.append(
            alt.Chart(alt.NamedData(name="floor"))
            .mark_area(opacity=0.16, color="var(--error)", line={"color": "var(--error)", "strokeWidth": 1}, clip=True)
            .encode(
                x=x,
                y=alt.Y("floor:Q", scale=scale),
                y2="low:Q",
                tooltip=[alt.Tooltip("floor:Q", title="an update does nothing below", format=".3e")],
            )
        )
        name = alt.Chart(alt.InlineData(values=[{"depth": 0, "low": low}]))
        words = {"text": "below: an update does nothing", "align": "right", "baseline": "bottom", "dx": -8, "dy": -6}
        layers.append(
            name.mark_text(color="var(--error)", fontSize=12, **words).encode(
                x=alt.XDatum(max(p["depth"] for p in depth.points)), y=alt.Y("low:Q", scale=scale)
            )
        )
    return alt.layer(*layers, lines, hover).properties(width="container", height=300)


def _hover(data: str) -> alt.Chart:
    """Invisible dots for the pointer to meet. A line's tooltip would show its first point, wherever it is touched."""
    return alt.Chart(alt.NamedData(name=data)).mark_circle(size=70, opacity=0, clip=True)


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten for the axis, seven at most."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    return [10.0**k for k in range(last, first - 1, -max(1, math.ceil((last - first + 1) / 7)))]


def _heat(heat: HeatMap, letter: str) -> alt.Chart:
    values = [c[k] for c in heat.cells for k in "SB" if c[k] is not None]
    domain = [math.floor(min(values) * 10) / 10, math.ceil(max(values) * 10) / 10]
    what = "shortcut" if letter == "S" else "branch"
    return (
        alt.Chart(alt.NamedData(name="heat"))
        .mark_rect()
        .encode(
            x=alt.X(
                "step:O", title="training step", axis=alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=8)
            ),
            y=alt.Y("skip:N", sort=None, title=None, axis=alt.Axis(labelOverlap="greedy", labelLimit=96, ticks=False)),
            color=alt.Color(
                f"{letter}:Q",
                title=f"log₁₀ ‖{letter}‖, through the {what}",
                scale=alt.Scale(scheme=HEAT_SCHEME, domain=domain),
                legend=alt.Legend(gradientLength=160, gradientThickness=10, titleLimit=260, tickCount=4),
            ),
            tooltip=[
                alt.Tooltip("skip:N"),
                alt.Tooltip("step:Q"),
                alt.Tooltip("S:Q", title="log₁₀ ‖S‖ shortcut"),
                alt.Tooltip("B:Q", title="log₁₀ ‖B‖ branch"),
            ],
        )
        .properties(width="container", height=max(90, min(420, 18 * len(heat.skips))))
    )


def _loss(losses: LossCurves, axis: str) -> alt.TopLevelMixin:
    who = [w for w in losses.who if any(p["who"] == w for p in losses.points)]
    colours = [PATIENT if w == "patient" else CURES[(i - 1) % len(CURES)] for i, w in enumerate(who)]
    values = [p["loss"] for p in losses.points]
    top = _sane_top(losses)
    low = min(values)
    log = low > 0 and top / low > 30
    scale = alt.Scale(
        type="log" if log else "linear", domain=[low * 0.9 if log else min(0.0, low), top], nice=False, clamp=True
    )
    title = "training loss" + (", log scale" if log else "")
    lines = (
        alt.Chart(alt.NamedData(name="losses"))
        .mark_line(strokeWidth=1.6, clip=True)
        .encode(
            x=alt.X(
                f"{axis}:Q",
                title="training step" if axis == "step" else "seconds of training, measuring included",
                axis=alt.Axis(grid=False),
            ),
            y=alt.Y("loss:Q", scale=scale, title=title),
            color=alt.Color("who:N", title=None, scale=alt.Scale(domain=who, range=colours)),
            strokeDash=alt.StrokeDash(
                "who:N", title=None, scale=alt.Scale(domain=who, range=[DASHES[i % 5] for i in range(len(who))])
            ),
            detail="trial:N",
        )
    )
    tooltips = [
        alt.Tooltip("who:N", title="net"),
        alt.Tooltip("trial:Q"),
        alt.Tooltip("step:Q"),
        alt.Tooltip("seconds:Q", title="seconds", format=".2f"),
        alt.Tooltip("loss:Q", format=".4f"),
    ]
    hover = _hover("losses").encode(x=f"{axis}:Q", y=alt.Y("loss:Q", scale=scale), tooltip=tooltips)
    layers: list[alt.Chart] = [lines, hover]
    if losses.best is not None and math.isfinite(losses.best):
        rule = alt.Chart(alt.InlineData(values=[{"best": losses.best}]))
        layers.insert(
            0,
            rule.mark_rule(color="var(--soft)", strokeDash=[2, 3]).encode(y=alt.Y("best:Q", scale=scale, title=title)),
        )
    return alt.layer(*layers).properties(width="container", height=240)


def _paths(paths: PathCurves, what: str, mean: str, title: str) -> alt.TopLevelMixin:
    who = list(dict.fromkeys(p["who"] for p in paths.points))
    when = [w for w in (BEFORE, AFTER) if any(p["when"] == w for p in paths.points)]
    axis = alt.Axis(grid=False, tickMinStep=1, format="d")
    means = [m[mean] for m in paths.means if m["unsigned"] is not None]
    domain = [min(0, *means), max(paths.longest, *means)]
    scale = alt.Scale(domain=domain, nice=False, padding=6)
    x = alt.X("length:Q", title="path length: branches the gradient came through", axis=axis, scale=scale)
    shares = [p[what] for p in paths.points]
    # A share a little below zero is no reason for a band of nothing under the axis.
    low = min(0.0, *shares) if min(shares) < -0.02 * max(shares) else 0.0
    y_scale = alt.Scale(domain=[low, 1.05 * max(shares)], nice=bool(low), clamp=True)
    y = alt.Y(f"{what}:Q", title=title, axis=alt.Axis(format="%"), scale=y_scale)
    colours = [PATIENT if w == "patient" else CURES[0] for w in who]  # a patient without skips is not among them
    colour = alt.Color("who:N", title=None, scale=alt.Scale(domain=who, range=colours))
    dashes = [[1, 0] if w == AFTER else [4, 4] for w in when]
    dash = alt.StrokeDash("when:N", title=None, scale=alt.Scale(domain=when, range=dashes))
    lines = (
        alt.Chart(alt.NamedData(name="paths")).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, strokeDash=dash)
    )
    tooltips = [
        alt.Tooltip("who:N", title="net"),
        alt.Tooltip("when:N", title="measured"),
        alt.Tooltip("length:Q", title="branches"),
        alt.Tooltip("share:Q", title="share of the gradient", format=".2%"),
        alt.Tooltip("norm:Q", title="share of the norms", format=".2%"),
    ]
    hover = _hover("paths").encode(x=x, y=y, tooltip=tooltips)
    marks = (
        alt.Chart(alt.NamedData(name="path-means"))
        .mark_rule(strokeWidth=1.2, opacity=0.75)
        .encode(
            x=alt.X(f"{mean}:Q", scale=scale, axis=axis, title="path length: branches the gradient came through"),
            color=colour,
            strokeDash=dash,
            tooltip=[
                alt.Tooltip("who:N", title="net"),
                alt.Tooltip("when:N", title="measured"),
                alt.Tooltip("signed:Q", title="signed mean length", format=".3f"),
                alt.Tooltip("unsigned:Q", title="unsigned mean length", format=".3f"),
            ],
        )
    )
    return alt.layer(marks, lines, hover).properties(width="container", height=220)


def _sane_top(losses: LossCurves) -> float:
    """Where the loss axis ends: at 1.5 times the median of the trials' first losses, or at the highest loss below that.

    Otherwise one cure that diverges would flatten all other curves into a line.
    """
    firsts: dict[int, float] = {}
    for p in losses.points:
        firsts.setdefault(p["trial"], p["loss"])
    values = [p["loss"] for p in losses.points]
    ordered = sorted(firsts.values())
    return min(max(values), 1.5 * ordered[len(ordered) // 2] + 1e-12) * 1.02 or 1.0
