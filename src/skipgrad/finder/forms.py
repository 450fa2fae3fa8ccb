"""Which form of skip connection a skip is, where the graph alone tells: the forms that have a mark of their own."""

from __future__ import annotations

from collections import Counter
from math import prod

from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.finder.build import Found
from skipgrad.finder.graph import Edge

# Names of `skipgrad.blocks.FORMS`, and what marks them.
MARKS = {
    "rezero": "a learned scalar on its branch (ReZero, SkipInit)",
    "layerscale": "a learned scale for each channel on its branch",
    "highway": "a gate between branch and shortcut",
    "dense": "concatenation of what came before and one layer more",
    "long-concat": "a long skip that is concatenated, as in a U-Net",
    "long-add": "a long skip that is added",
    "segnet": "the places of the maxima, as in SegNet",
}


def forms_of(graph: SkipGraph) -> dict[str, str]:
    """Skip → form, for skips whose form has a mark of its own; plain residuals have none.

    Empty for a graph that was read from a file and has no trace.
    """
    if not isinstance(graph.found, Found):
        return {}
    named = {s.name: _form(graph.found, s) for s in graph.skips}
    return {name: form for name, form in named.items() if form}


def told(graph: SkipGraph) -> list[str]:
    """A line for each form that was recognised: how many skips, what marks it, the page."""
    many = Counter(forms_of(graph).values())
    return [f"{many[form]} × {form}: {mark} – docs/forms/{form}.md" for form, mark in MARKS.items() if many[form]]


def _form(found: Found, skip: Skip) -> str:
    if skip.kind == "index":
        return "segnet"
    if skip.kind == "gate":
        return "highway"
    if skip.kind == "concat":
        return "long-concat" if skip.long else "dense"
    match = found.matches.get(skip.name)
    scales = {_scale(found, e) for e in match.branches} if match is not None else set()
    if len(scales) == 1 and (scale := scales.pop()):
        return scale
    return "long-add" if skip.long else ""


def _scale(found: Found, branch: Edge) -> str:
    """The learned factor that a branch ends in: a scalar, a value for each channel, or none."""
    nodes = found.graph.nodes
    at = nodes[found.graph.value(branch)]
    # Behind the scale there may be views, dropout and masks.
    while (at.cls in ("identity", "slice") or (at.cls == "scaled" and not at.params)) and len(at.ins) == 1:
        at = nodes[at.ins[0]]
    if at.op != "mul" or not at.params or len(at.ins) != 1:
        return ""
    shapes = [nodes[i].shape for i in at.args if nodes[i].role == "param"]
    if not shapes or any(sum(d > 1 for d in shape) > 1 for shape in shapes):
        return ""  # a matrix or a map is no scale for each channel
    return "rezero" if all(prod(shape) == 1 for shape in shapes) else "layerscale"
