"""A graph as boxes and arrows: layers and merges in order of execution, an arrow from each fork to its merge.

The records know where a fork is made, as a number of layers executed before; its box is the last thing that was made by
then. Branches side by side are drawn one after another, in the order they ran.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from skipgrad.core.draw.groups import Group, fold, stages
from skipgrad.core.draw.words import ROOT, clean, many
from skipgrad.core.skips import Skip, Skips, owner_of
from skipgrad.core.units import shape

BoxKind = Literal["end", "layer", "merge", "group"]
_SIGNS = {"add": "+", "concat": "concat", "gate": "gate", "index": "unpool"}


@dataclass(frozen=True)
class Box:
    """A node: its identifier, the lines of its label, what it stands for and the stage it is in (empty: none)."""

    id: str
    lines: tuple[str, ...]
    kind: BoxKind
    stage: str = ""


@dataclass(frozen=True)
class Arrow:
    """An edge; ``skip`` is the kind of the shortcut it stands for, empty for the way through the layers."""

    start: str
    end: str
    skip: str = ""
    label: str = ""


@dataclass(frozen=True)
class Flow:
    """Boxes in order of execution, and arrows.

    Attributes:
        boxes: the nodes.
        arrows: the edges.
        folded: how many layers a box stands for was decided by size: layers are shown in groups.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    folded: bool = False


def whole(graph: Skips) -> Flow:
    """Every layer and every merge a box. Layers on a shortcut (projections) lie on its arrow."""
    stage_of = [clean(s.name) for s in stages(graph.layers) for _ in range(s.start, s.end)]
    aside = _on_shortcuts(graph)
    off_trunk = {i for on in aside.values() for i in on}
    by_end: dict[int, list[int]] = defaultdict(list)
    for k, skip in enumerate(graph.skips):
        by_end[min(skip.end, len(graph.layers))].append(k)
    boxes = [Box("input", ("input",), "end")]
    arrows: list[Arrow] = []
    last, stage = "input", ""
    before: list[str] = []  # per position, what was made last when its merges began
    for position in range(len(graph.layers) + 1):
        before.append(last)
        for k in by_end[position]:
            skip = graph.skips[k]
            after = stage_of[position] if position < len(stage_of) else stage
            stage = after if _owns(after, skip.owner) else stage
            box = Box(f"m{k}", (_SIGNS[skip.kind],), "merge", stage)
            boxes.append(box)
            arrows.append(Arrow(last, box.id))
            start = _fork(graph, k, [j for j in by_end[skip.start] if j < k], before)
            arrows += _shortcut(skip, [start, *(f"l{i}" for i in aside[k]), box.id])
            last = box.id
        if position < len(graph.layers):
            layer, stage = graph.layers[position], stage_of[position]
            box = Box(f"l{position}", (clean(layer.name), f"{layer.op} → {shape(layer.out_shape)}"), "layer", stage)
            boxes.append(box)
            if position not in off_trunk:
                arrows.append(Arrow(last, box.id))
                last = box.id
    boxes.append(Box("output", ("output",), "end"))
    arrows.append(Arrow(last, "output"))
    return Flow(tuple(boxes), tuple(arrows))


def folded(graph: Skips, most: int) -> Flow:
    """Groups of layers as boxes, at most ``most``; a skip inside a group is counted in its label."""
    groups = fold(graph.layers, most)
    inside: Counter[int] = Counter()
    between: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for skip in graph.skips:
        # A fork is what the group before it made; a merge belongs to the last layer before it.
        start, first, end = (_group_of(groups, p) for p in (skip.start - 1, skip.start, skip.end - 1))
        if first == end and end is not None:
            inside[end] += 1
        else:
            between[_id(start), _id(end)][f"{skip.shortcut} {skip.kind}"] += 1
    boxes = [Box("input", ("input",), "end")]
    for k, group in enumerate(groups):
        text = many(len(group), "layer") + (f", {many(inside[k], 'skip')}" if inside[k] else "")
        boxes.append(Box(f"g{k}", (clean(group.name), text), "group"))
    boxes.append(Box("output", ("output",), "end"))
    arrows = [Arrow(a.id, b.id) for a, b in pairwise(boxes)]
    for (start, end), kinds in between.items():
        label = ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in kinds.items())
        arrows.append(Arrow(start, end, next(iter(kinds)).split()[-1], label))
    return Flow(tuple(boxes), tuple(arrows), folded=True)


def _on_shortcuts(graph: Skips) -> dict[int, list[int]]:
    """Per skip, the layers that lie on its shortcut: they ran between fork and merge and belong to its modules."""
    out: dict[int, list[int]] = defaultdict(list)
    taken: set[int] = set()
    for k, skip in enumerate(graph.skips):
        modules = set(skip.shortcut_modules)
        for i in range(skip.start, min(skip.end, len(graph.layers))):
            if modules and owner_of(graph.layers[i].name, modules) in modules and i not in taken:
                taken.add(i)
                out[k].append(i)
    return out


def _fork(graph: Skips, k: int, merged: list[int], before: list[str]) -> str:
    """The box skip ``k`` forks from; ``merged`` are the merges at its position that ran before it."""
    skip = graph.skips[k]
    for j in merged:
        if graph.skips[j].name == skip.previous:
            return f"m{j}"
    at = min(skip.start, len(before) - 1)
    made_by_layer = at > 0 and owner_of(graph.layers[at - 1].name, {skip.fork}) == skip.fork
    return f"m{merged[-1]}" if merged and not made_by_layer else before[at]


def _shortcut(skip: Skip, stops: list[str]) -> list[Arrow]:
    label = f"{clean(skip.name) or ROOT}: {skip.shortcut}"
    if skip.fan_in > 2:
        label += f", {skip.fan_in} joined"
    return [Arrow(a, b, skip.kind, label if b == stops[-1] else "") for a, b in pairwise(stops)]


def _owns(stage: str, owner: str) -> bool:
    return owner == stage or owner.startswith(f"{stage}.")


def _group_of(groups: list[Group], layer: int) -> int | None:
    """The group of a layer; None before the first and after the last."""
    return next((k for k, g in enumerate(groups) if g.start <= layer < g.end), None)


def _id(group: int | None) -> str:
    return "input" if group is None else f"g{group}"
