"""Counts and draws the gradient paths of a net whose skips lie in series, side by side or inside one another."""

from __future__ import annotations

import random
from dataclasses import dataclass

from skipgrad.core import MeasureError
from skipgrad.finder import Found
from skipgrad.finder.graph import Edge, bits_of
from skipgrad.probes.spectrum.places import CutPlaces

END = -1  # the fork, where all paths end
Choice = tuple[str, int]  # (skip, the number of the branch a path takes; -1 for an operand that is no branch)


@dataclass
class Lines:
    """The merges that gradient paths pass, from the loss back to the fork. A merge goes by the name of its skip.

    Attributes:
        first: the merge nearest the loss; None where there is none.
        after: (skip, option) → the merge that a path which takes that option comes to next; None when it is the fork.
        counts: merge → how many paths of each length lead from it to the fork. None stands for the fork, from which
            one path of length 0 leads to itself.
    """

    first: str | None
    after: dict[Choice, str | None]
    counts: dict[str | None, list[int]]

    def draw(self, length: int, rng: random.Random) -> list[Choice]:
        """A random path of a given length; every path of that length is equally likely."""
        path: list[Choice] = []
        at, left = self.first, length
        while at is not None:
            options = [c for c in self.after if c[0] == at]
            weights = [_at(self.counts[self.after[c]], left - (c[1] >= 0)) for c in options]
            # By hand, because `rng.choices` computes in floats, and the numbers of paths in a deep net exceed these.
            ticket = rng.randrange(sum(weights))
            for choice, weight in zip(options, weights, strict=True):
                ticket -= weight
                if ticket < 0:
                    path.append(choice)
                    at, left = self.after[choice], left - (choice[1] >= 0)
                    break
        return path


def lines(found: Found, places: CutPlaces) -> Lines:
    """The paths from the loss to the fork.

    Raises:
        MeasureError: a path splits other than at an add skip (a concat, a product of two parts that both hold skips).
    """
    graph = found.graph
    inside = graph.down[places.fork]
    ends = {m.merge: n for n, m in places.matches.items()}

    def reached(start: int) -> set[int]:
        """Going backwards from a value: the first merges it meets, and the fork (as `END`) where it meets no merge."""
        stops: set[int] = set()
        seen, front = set(), [start]
        while front:
            i = front.pop()
            if i in seen or not inside >> i & 1:
                continue
            seen.add(i)
            if i == places.fork:
                stops.add(END)
            elif i in ends:
                stops.add(i)
            else:
                front += graph.nodes[i].ins
        return stops

    def single(stops: set[int], where: str) -> str | None:
        if len(stops) != 1:
            raise MeasureError(
                "sampling gradient paths",
                where=where,
                received="a path that splits other than at an add skip",
                todo="use sg.path_spectrum, which needs no single paths",
            )
        (stop,) = stops
        return None if stop == END else ends[stop]

    outputs = [i for i in bits_of(inside) if not graph.consumers[i]]
    first = single({s for i in outputs for s in reached(i)}, "between the loss and the last add skip")
    after: dict[Choice, str | None] = {}
    counts: dict[str | None, list[int]] = {None: [1]}
    for name, match in places.matches.items():  # in order of execution: the counts of merges nearer the fork are known
        groups: dict[int, set[int]] = {}
        for edge in match.operands:
            option = match.branches.index(edge) if edge in match.branches else -1
            stops = reached(_value(found, edge))
            if stops:
                groups.setdefault(option, set()).update(stops)
        total: list[int] = []
        for option, stops in groups.items():
            following = single(stops, f"skip {name!r}")
            after[(name, option)] = following
            total = _plus(total, [0] * (option >= 0) + counts[following])
        counts[name] = total
    return Lines(first, after, counts)


def _value(found: Found, edge: Edge) -> int:
    return found.graph.nodes[edge.op].args[edge.pos]


def _at(counts: list[int], k: int) -> int:
    return counts[k] if 0 <= k < len(counts) else 0


def _plus(a: list[int], b: list[int]) -> list[int]:
    return [_at(a, k) + _at(b, k) for k in range(max(len(a), len(b)))]
