"""A graph in DOT, the language of Graphviz: ``skipgrad find MODEL --format dot | dot -Tsvg``."""

from __future__ import annotations

from itertools import groupby

from skipgrad.core.draw.flow import Arrow, Box, whole
from skipgrad.core.draw.words import clean, sentence
from skipgrad.core.skips import Skips

_SHAPES = {"end": "oval", "merge": "circle", "layer": "box", "group": "box3d"}
# Of the shortcuts' arrows; the label says the kind in words.
_STYLES = {"add": "solid", "concat": "dashed", "gate": "dotted", "index": "dotted"}


def dot(graph: Skips) -> str:
    """All layers and merges as a directed graph, stages as clusters, shortcuts as arrows that say their kind."""
    flow = whole(graph)
    title = f"{graph.model or 'network'}: {sentence(graph)}"
    lines = [
        "digraph network {",
        f"  label={_quoted(title)};",
        '  labelloc=t; fontname="Helvetica";',
        '  node [fontname="Helvetica", fontsize=10]; edge [fontname="Helvetica", fontsize=9];',
        "  // layers in order of execution; branches side by side stand one after another",
    ]
    for number, (stage, members) in enumerate(groupby(flow.boxes, key=lambda box: box.stage)):
        if stage:
            lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(stage)}; style=rounded; color=gray;"]
        lines += [f"{'    ' if stage else '  '}{_box(box)}" for box in members]
        if stage:
            lines.append("  }")
    lines += [_arrow(a) for a in flow.arrows]
    return "\n".join([*lines, "}"]) + "\n"


def _box(box: Box) -> str:
    return f"{box.id} [shape={_SHAPES[box.kind]}, label={_quoted(*box.lines)}];"


def _arrow(arrow: Arrow) -> str:
    if not arrow.skip:
        return f"  {arrow.start} -> {arrow.end} [weight=4];"
    label = f", label={_quoted(f'{arrow.skip}, {arrow.label}')}" if arrow.label else ""
    # No `constraint=false`: it says nothing here (a merge lies below its fork anyway) and makes dot take minutes.
    look = f"style={_STYLES[arrow.skip]}, color=steelblue, penwidth=1.6"
    return f"  {arrow.start} -> {arrow.end} [{look}{label}];"


def _quoted(*lines: str) -> str:
    """Lines of a label. A backslash would begin an escape of DOT's own."""
    safe = (clean(line).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for line in lines)
    return '"' + "\\n".join(safe) + '"'
