"""A graph as an SVG that stands alone: the strip with its arcs, a sentence above, a legend in words below.

Kind is told by line style and colour together, the shortcut by a mark on the arc's crown, both spelt out in the legend.
"""

from __future__ import annotations

from collections import Counter

from skipgrad.core.draw.groups import blocks, stages
from skipgrad.core.draw.strip import BAND, LEFT, LETTER, RIGHT, WIDTH, Strip, arc, cell, stage_marks
from skipgrad.core.draw.words import clean, many, sentence, xml
from skipgrad.core.skips import Skip, Skips

HEAD = 48.0  # px of heading
_COUNT = 10.0  # of a number on an arc
_ROW = 18.0  # of the legend

_DASHES = {"add": "none", "concat": "7 3", "gate": "2 3", "index": "9 3 2 3"}
_MARKS = {  # around (0, 0)
    "projection": '<rect class="full" x="-3.5" y="-3.5" width="7" height="7"/>',
    "changed": '<circle class="hollow" r="3.2"/>',
}

_LIGHT = "--p:#fff;--k:#1d2129;--t:#586372;--n:#7d93a8;--add:#1f6fb2;--concat:#b4500a;--gate:#8a3d91;--index:#00735c"
_DARK = "--p:#16191f;--k:#e7eaf0;--t:#a3adba;--n:#66798c;--add:#6cb2f0;--concat:#f0a35e;--gate:#d793e0;--index:#4fc7a8"
STYLE = (
    f".sg-draw{{{_LIGHT};font:11px system-ui,sans-serif}}"
    f"@media(prefers-color-scheme:dark){{.sg-draw{{{_DARK}}}}}"
    ".sg-draw .paper{fill:var(--p)}.sg-draw text{fill:var(--t)}"
    ".sg-draw .head{fill:var(--k);font-size:14px;font-weight:600}"
    ".sg-draw .say{font-size:12.5px;fill:var(--k)}.sg-draw .stage{fill:var(--t);opacity:.1}"
    ".sg-draw .layer{fill:var(--n)}.sg-draw .tick{stroke:var(--t);opacity:.7}.sg-draw .number{font-size:10px}"
    ".sg-draw .line{fill:none;stroke:var(--c)}.sg-draw .hit{fill:none;stroke:transparent;stroke-width:9}"
    ".sg-draw .arc:hover .line{stroke:var(--k);stroke-width:3.5}.sg-draw .cell:hover .layer{fill:var(--k)}"
    ".sg-draw .full{fill:var(--c)}.sg-draw .hollow{fill:var(--p);stroke:var(--c);stroke-width:1.6}"
    ".sg-draw .count{font-size:10px;fill:var(--k);stroke:var(--p);stroke-width:3;paint-order:stroke}"
    + "".join(
        f".sg-draw .{kind}{{--c:var(--{kind})}}.sg-draw .{kind} .line{{stroke-dasharray:{dash}}}"
        for kind, dash in _DASHES.items()
    )
)


def svg(graph: Skips, *, label: str = "") -> str:
    """The drawing of a graph as one SVG element, in light and dark, with a tooltip on every arc and layer.

    Args:
        graph: what to draw.
        label: what it is called; the graph's own model when empty.
    """
    strip = Strip.of(graph, HEAD + (_COUNT if any(map(_counted, graph.skips)) else 0))
    name = label or graph.model or "network"
    numbers, numbered = _blocks(graph, strip)
    foot = strip.base + BAND + (13 if numbered else 2)
    legend, rows = _legend(graph, strip, foot + 38)
    height = foot + 38 + _ROW * rows
    out = [
        f'<svg class="sg-draw" xmlns="http://www.w3.org/2000/svg" width="{strip.width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {strip.width:.0f} {height:.0f}" role="img" aria-label="{xml(f"{name}: {sentence(graph)}")}">',
        f"<style>{STYLE}</style>",
        '<rect class="paper" width="100%" height="100%" rx="6"/>',
        f'<text class="head" x="{RIGHT}" y="22">{xml(_cut(name, 110))}</text>',
        f'<text class="say" x="{RIGHT}" y="40">{xml(_cut(sentence(graph), 160))}</text>',
        *stage_marks(graph.layers, strip, HEAD + 2, foot),
        f'<text x="{LEFT - 6}" y="{strip.base + BAND - 3:.1f}" text-anchor="end">input</text>',
        *(cell(i, layer, strip) for i, layer in enumerate(graph.layers)),
        *numbers,
        # Long arcs first, so that short ones, which lie below them, stay reachable by the pointer.
        *(_arc(i, graph.skips[i], strip) for i in sorted(range(len(graph)), key=lambda i: -strip.heights[i])),
        *legend,
        "</svg>",
    ]
    return "".join(out)


def _arc(i: int, skip: Skip, strip: Strip) -> str:
    x, y = strip.crown(i, skip)
    mark = _MARKS.get(_mark(skip), "")
    top = f'<g transform="translate({x:.1f},{y:.1f})">{mark}</g>' if mark else ""
    room = strip.cell * (skip.end - skip.start)
    if _counted(skip) and room >= LETTER * len(str(skip.fan_in)) + 3:
        top += f'<text class="count" x="{x:.1f}" y="{y - 4:.1f}" text-anchor="middle">{skip.fan_in}</text>'
    # A concat of a growing list is a bundle: the more it joins, the thicker.
    stroke = min(4.0, 1.6 + 0.12 * (skip.fan_in - 2)) if skip.kind == "concat" else 1.6
    return arc(i, skip, strip, classes=skip.kind, stroke=stroke, top=top)


def _counted(skip: Skip) -> bool:
    return skip.kind == "concat" and skip.fan_in > 2


def _mark(skip: Skip) -> str:
    return {"identity": "", "projection": "projection"}.get(skip.shortcut, "changed")


def _blocks(graph: Skips, strip: Strip) -> tuple[list[str], bool]:
    """Ticks between the numbered blocks of a stage, and the numbers of as many as there is room for."""
    out: list[str] = []
    y = strip.base + BAND
    for stage in stages(graph.layers):
        free = 0.0  # right end of the last number
        for block in blocks(graph.layers, stage):
            x, w = strip.x(block.start), strip.cell * len(block)
            out.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4:.1f}"/>')
            wide = LETTER * len(block.name)
            left = x + w / 2 - wide / 2
            if left >= free and left >= strip.x(stage.start) and x + w / 2 + wide / 2 <= strip.x(stage.end):
                at = f'x="{x + w / 2:.1f}" y="{y + 12:.1f}"'
                out.append(f'<text class="number" {at} text-anchor="middle">{xml(block.name)}</text>')
                free = left + wide + 6
    return out, bool(out)


def _legend(graph: Skips, strip: Strip, y: float) -> tuple[list[str], int]:
    """What the lines and marks mean, of those that occur; returns the markup and the number of its rows."""
    kinds = Counter(s.kind for s in graph.skips)
    marks = Counter(_mark(s) for s in graph.skips)
    items: list[tuple[str, str]] = []
    for kind in _DASHES:
        if kinds[kind]:
            line = f'<g class="arc {kind}"><path class="line" d="M0,-4H26" stroke-width="2"/></g>'
            items.append((line, many(kinds[kind], f"{kind} skip")))
    words = {
        "projection": "shortcut has weights (projection)",
        "changed": "shortcut scales, slices, pools or resamples",
    }
    for mark, text in words.items():
        if marks[mark]:
            kind = next(s.kind for s in graph.skips if _mark(s) == mark)
            shape = _MARKS[mark].replace("<", '<g transform="translate(20,-4)"><', 1) + "</g>"
            items.append((f'<g class="{kind}">{shape}</g>', f"{text}: {marks[mark]}"))
    if any(map(_counted, graph.skips)):
        items.append(('<text class="count" x="10">3</text>', "tensors joined; more make a thicker line"))
    layer = '<rect class="layer" x="12" y="-11" width="14" height="11"/>'
    items.append((layer, f"{many(len(graph.layers), 'weighted layer')}, in order of execution"))
    out: list[str] = []
    x, row = float(RIGHT), 0
    for drawing, text in items:
        wide = 34 + LETTER * len(text) + 18
        if x > RIGHT and x + wide > min(strip.width, WIDTH):
            x, row = float(RIGHT), row + 1
        out.append(f'<g transform="translate({x:.1f},{y + _ROW * row:.1f})">{drawing}<text x="34">{text}</text></g>')
        x += wide
    return out, row + 1


def _cut(text: str, most: int) -> str:
    text = clean(text).replace("\n", " ").replace("\t", " ")
    return text if len(text) <= most else text[: most - 1] + "…"
