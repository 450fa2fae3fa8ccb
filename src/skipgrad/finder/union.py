"""Several graphs of one model, each of a forward that ran other blocks, as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from skipgrad.core.graph import Layer, Skip, SkipGraph


def same(a: SkipGraph, b: SkipGraph) -> bool:
    """Whether two graphs have the same skips and the same layers, in the same order."""
    return _told(a) == _told(b)


def _told(graph: SkipGraph) -> tuple[object, ...]:
    return tuple((s.name, s.kind, s.branches) for s in graph.skips), tuple(layer.name for layer in graph.layers)


def united(graphs: Sequence[SkipGraph]) -> tuple[SkipGraph, tuple[str, ...]]:
    """The graph that has most, with what only others have; and the names of the skips that are only in others.

    Names, order and trace (`SkipGraph.found`) are those of the graph that has most, of several such the first. A skip
    of another graph stands behind the one it follows there.
    """
    base = max(graphs, key=lambda g: (len(g.skips), len(g.layers)))
    layers = list(base.layers)
    skips = list(base.skips)
    of: dict[str, SkipGraph] = dict.fromkeys((s.name for s in skips), base)
    for other in graphs:
        if other is not base:
            _add_layers(layers, other.layers)
            _add_skips(skips, of, other)
    at = {layer.name: k for k, layer in enumerate(layers)}

    def placed(skip: Skip) -> Skip:
        ran = of[skip.name].layers
        end = at[ran[skip.end - 1].name] + 1 if skip.end else 0
        # From the first layer that ran after the fork: what others ran between is not this one's.
        start = at[ran[skip.start].name] if skip.start < skip.end else end
        return replace(skip, start=start, end=end)

    skips = [placed(s) for s in skips]
    more = tuple(s.name for s in skips if of[s.name] is not base)
    others = tuple(dict.fromkeys(o for g in (base, *graphs) for o in g.others))
    unknown = {(u.op, u.module): u for g in (*graphs, base) for u in g.unknown}
    return replace(base, skips=tuple(skips), layers=tuple(layers), others=others, unknown=tuple(unknown.values())), more


def _add_layers(layers: list[Layer], new: Sequence[Layer]) -> None:
    at = 0
    for layer in new:
        known = next((k for k, old in enumerate(layers) if old.name == layer.name), None)
        if known is None:
            layers.insert(at, layer)
            known = at
        at = known + 1


def _add_skips(skips: list[Skip], of: dict[str, SkipGraph], other: SkipGraph) -> None:
    names: dict[str, str] = {}  # in the other graph → here
    free = list(skips)
    at = 0
    for skip in other.skips:
        known = next((s for s in free if _alike(s, skip)), None)
        if known is None:
            base = skip.owner or "root"
            name, many = base, 1
            while name in of:
                many += 1
                name = f"{base}#{many}"
            previous = names.get(skip.previous or "")
            known = replace(skip, name=name, previous=previous, trunk=skip.trunk if previous else ())
            skips.insert(at, known)
            of[name] = other
        else:
            free.remove(known)
        names[skip.name] = known.name
        at = skips.index(known) + 1


def _alike(a: Skip, b: Skip) -> bool:
    """Whether two skips are one: the same merge, around the same modules but for those that did not run."""
    if (a.kind, a.owner) != (b.kind, b.owner):
        return False
    one, two = ({p for branch in s.branches for p in branch} for s in (a, b))
    return one <= two or two <= one
