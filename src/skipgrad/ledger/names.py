"""Which name a skip goes by in all forwards of a watch.

A forward may leave blocks out, or run them in another order, so that the number a skip has among those of its module
says nothing. A skip is known by what it *is*: the module it merges in, and the weights on its paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from skipgrad.core import Skip, SkipGraph
from skipgrad.finder import Found
from skipgrad.finder.graph import bits_of
from skipgrad.finder.records import Match


@dataclass
class _Known:
    """A skip that was met, or that the user's graph has.

    Attributes:
        name: what it is called.
        where: its kind and the module that it merges in.
        paths: the modules that own weights on its paths.
        weights: the learned tensors met on its paths so far; None for a skip whose record alone is known, from a file
            or of another forward than the one that the graph was found in.
    """

    name: str
    where: tuple[str, str]
    paths: frozenset[str]
    weights: set[str] | None = field(default_factory=set)


class Names:
    """The skips met so far.

    Args:
        graph: the skips that the user gave, whose names are kept.
    """

    def __init__(self, graph: SkipGraph | None = None) -> None:
        self._known: list[_Known] = []
        found: Found | None = graph.found if graph is not None else None
        matches = found.matches if found is not None else {}
        records = {s.name: s for s in graph.skips} if graph is not None else {}
        if found is not None:
            for name, match in matches.items():
                paths = _paths(records[name]) if name in records else frozenset[str]()
                self._known.append(_Known(name, _where(found, match), paths, _weights(found, match)))
        self._known += [_Known(n, (s.kind, s.owner), _paths(s), None) for n, s in records.items() if n not in matches]

    def of(self, graph: SkipGraph) -> dict[str, str]:
        """For each skip of a forward, by the name that the forward alone would give it: the name that it goes by."""
        found: Found = graph.found
        paths = {s.name: _paths(s) for s in graph.skips}
        met = {name: (_where(found, m), _weights(found, m)) for name, m in found.matches.items()}
        free = list(self._known)
        given: dict[str, _Known] = {}
        for name, (where, weights) in met.items():
            known = next((k for k in free if k.where == where and k.weights == weights), None)
            if known is None:  # whose weights nobody knows: the modules tell, and where they are the same the name
                alike = [k for k in free if k.where == where and k.weights is None and k.paths == paths.get(name)]
                known = next((k for k in alike if k.name == name), alike[0] if alike else None)
            if known is not None:
                given[name] = known
                free.remove(known)
        # Of a mixture of experts another expert may have run: what it has besides the expert is then still its own.
        for name, (where, weights) in met.items():
            if name in given:
                continue
            others = [w for other, (place, w) in met.items() if other != name and place == where]
            own = weights.difference(*others)
            near = [k for k in free if k.where == where and k.weights and own & self._exclusive(k)]
            if near:
                known = max(near, key=lambda k: len(own & (k.weights or set())))
                given[name] = known
                free.remove(known)
        for name, (where, weights) in met.items():
            known = given.get(name)
            if known is None:
                known = given[name] = _Known(self._unused(name), where, paths.get(name, frozenset()))
                self._known.append(known)
            known.weights = (known.weights or set()) | weights
        return {name: known.name for name, known in given.items()}

    def _exclusive(self, known: _Known) -> set[str]:
        """The weights that no other skip of the same place has."""
        others = (k.weights for k in self._known if k is not known and k.where == known.where and k.weights)
        return set(known.weights or ()).difference(*others)

    def _unused(self, name: str) -> str:
        taken = {k.name for k in self._known}
        base = name.split("#")[0]
        return next(n for n in _numbered(name, base) if n not in taken)


def _numbered(name: str, base: str) -> Iterable[str]:
    yield name
    yield base
    number = 2
    while True:
        yield f"{base}#{number}"
        number += 1


def _paths(skip: Skip) -> frozenset[str]:
    return frozenset(p for branch in skip.branches for p in branch) | frozenset(skip.shortcut_modules)


def _where(found: Found, match: Match) -> tuple[str, str]:
    return match.kind, found.graph.nodes[match.merge].module


def _weights(found: Found, match: Match) -> set[str]:
    nodes = found.graph.nodes
    return {p for i in bits_of(match.branch_nodes | match.shortcut_nodes) for p in nodes[i].params}
