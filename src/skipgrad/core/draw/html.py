"""A graph as a notebook shows it: the sentence, the drawing, and folded below it the skips and what is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from skipgrad.core.clean import unclean
from skipgrad.core.draw.svg import svg
from skipgrad.core.draw.words import ROOT, many, xml
from skipgrad.core.skips import Skips
from skipgrad.core.units import shapes

MOST_ROWS = 60  # of the table; a notebook is saved with its output
MOST_LINES = 20  # of each list

# Every rule is bound to our own class; the page around keeps its own look, and its colour of text unless we set ours.
_STYLE = (
    ".sg-graph{font:13px/1.45 system-ui,sans-serif;max-width:100%}"
    ".sg-graph .sg-scroll{overflow-x:auto;max-width:100%}"
    ".sg-graph .sg-scroll>svg{display:block;max-width:none;height:auto}"
    ".sg-graph details{margin:.3em 0 0 .2em}.sg-graph summary{cursor:pointer}"
    ".sg-graph table{border-collapse:collapse;font-size:12px;margin:.3em 0}"
    ".sg-graph th,.sg-graph td{padding:2px 12px 2px 0;text-align:left;border:0;background:none;white-space:nowrap}"
    ".sg-graph th{font-weight:600}.sg-graph .sg-count{text-align:right}"
    ".sg-graph ul{margin:.2em 0;padding-left:1.4em}.sg-graph li{overflow-wrap:anywhere}"
)


def html(graph: Skips) -> str:
    """One element that holds all there is to see of a graph; nothing outside it is changed or asked for."""
    parts = [
        f'<div class="sg-graph"><style>{_STYLE}</style><div class="sg-scroll">{svg(graph)}</div>',
        _skips(graph),
        _list(
            f"merges that are no skips: {len(graph.others)}",
            [f"{o.name or ROOT}: {o.kind}, {o.reason}" for o in graph.others],
        ),
        _list(
            f"ops without a rule: {len(graph.unknown)}",
            [f"{u.op} × {u.count} in {u.module or ROOT}" for u in graph.unknown],
        ),
        _list(
            f"shortcuts that are not clean: {len(unclean(graph))}",
            [f"{u.skip}: {u.reason}" for u in unclean(graph)],
        ),
        _list(
            f"places where a skip could be added: {len(graph.suggestions)}",
            [f"{s.first} … {s.last}: {s.reason or s.shortcut}" for s in graph.suggestions],
        ),
        _list("notes", graph.notes),
        "</div>",
    ]
    return "".join(parts)


def _skips(graph: Skips) -> str:
    if not graph.skips:
        return ""
    heads = ("skip", "kind", "shortcut", "length", "span", "fan-in", "fork → merge")
    rows = [
        (
            s.name,
            s.kind,
            s.shortcut,
            "long" if s.long else "short",
            s.span,
            s.fan_in,
            shapes(s.fork_shape, s.merge_shape),
        )
        for s in graph.skips[:MOST_ROWS]
    ]
    table = f"<tr>{_cells('th', heads)}</tr>" + "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    more = _more(len(graph.skips) - MOST_ROWS, "; <code>graph.skips</code> has all")
    inner = f'<div class="sg-scroll"><table>{table}</table></div>{more}'
    return f"<details><summary>{many(len(graph.skips), 'skip connection')}, one a row</summary>{inner}</details>"


def _cells(tag: str, cells: Iterable[Any]) -> str:
    # Numbers to the right, under their heads.
    counted = {4: ' class="sg-count"', 5: ' class="sg-count"'}
    return "".join(f"<{tag}{counted.get(i, '')}>{xml(cell)}</{tag}>" for i, cell in enumerate(cells))


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{xml(line)}</li>" for line in lines[:MOST_LINES])
    more = _more(len(lines) - MOST_LINES)
    return f"<details><summary>{xml(title)}</summary><ul>{items}</ul>{more}</details>"


def _more(count: int, where: str = "") -> str:
    return f"<p>… and {count} more{where}</p>" if count > 0 else ""
