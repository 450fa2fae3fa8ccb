"""A graph as a Mermaid flowchart, for pages that draw these from text (GitHub, GitLab, MkDocs)."""

from __future__ import annotations

from itertools import groupby

from skipgrad.core.draw.flow import Box, Flow, folded, whole
from skipgrad.core.draw.words import clean, many, sentence
from skipgrad.core.skips import Skips

# Mermaid refuses more edges and more text than this unless its page was told otherwise (maxEdges, maxTextSize).
MAX_EDGES, MAX_TEXT = 500, 50_000
# Beyond these a flowchart can no longer be read, though it could be drawn.
MOST_BOXES, MOST_GROUPS = 120, 40

_LINKS = {"": "-->", "add": "-.->", "concat": "==>", "gate": "-.->", "index": "-.->"}
# Letters that are no syntax anywhere in a quoted label; the rest goes in as character codes.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._,+-/()×→…")


def mermaid(graph: Skips) -> str:
    """The flowchart of a graph; thick arrows are concats, dotted ones the other skips, each with its kind in words.

    Nets too large to read, or for Mermaid's default limits, are folded: a box is a module or a stage then, and a
    comment says so.
    """
    flow = whole(graph)
    text = _write(graph, flow)
    most = MOST_GROUPS
    while len(flow.boxes) > (MOST_BOXES if not flow.folded else most + 2) or _beyond(flow, text):
        flow = folded(graph, most)
        text = _write(graph, flow)
        if not _beyond(flow, text) or most == 1:
            break
        most = max(1, most // 2)
    return text


def _beyond(flow: Flow, text: str) -> bool:
    return len(flow.arrows) > MAX_EDGES or len(text) > MAX_TEXT


def _write(graph: Skips, flow: Flow) -> str:
    lines = ["flowchart TD", f"  %% {_comment(graph.model or 'network')}: {_comment(sentence(graph))}"]
    if flow.folded:
        said = f"{many(len(graph.layers), 'layer')} in {many(len(flow.boxes) - 2, 'group')}"
        lines.append(f"  %% folded: {said}; a skip inside a group is counted in its box")
    else:
        lines.append("  %% layers in order of execution; branches side by side stand one after another")
    for number, (stage, members) in enumerate(groupby(flow.boxes, key=lambda box: box.stage)):
        if stage:
            lines.append(f'  subgraph s{number}["{_label(stage)}"]')
        lines += [f"{'    ' if stage else '  '}{_box(box)}" for box in members]
        if stage:
            lines.append("  end")
    for a in flow.arrows:
        words = f"{a.skip}, {a.label}" if a.label and not flow.folded else a.label
        label = f'|"{_label(words)}"|' if words else ""
        lines.append(f"  {a.start} {_LINKS[a.skip]}{label} {a.end}")
    return "\n".join(lines) + "\n"


def _box(box: Box) -> str:
    text = "<br/>".join(map(_label, box.lines))
    opening, closing = {"end": ("([", "])"), "merge": ("((", "))"), "layer": ("[", "]"), "group": ("[[", "]]")}[
        box.kind
    ]
    return f'{box.id}{opening}"{text}"{closing}'


def _label(text: str) -> str:
    return "".join(c if c in _PLAIN else f"#{ord(c)};" for c in clean(text))


def _comment(text: str) -> str:
    """A comment ends with its line, and ``{`` after ``%%`` would begin a directive."""
    return "".join(c if c.isprintable() and c not in "{}" else " " for c in clean(text))
