"""Names of skips and layers in a sentence: neighbours as a range, so that twelve of them are read at a glance."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Two neighbours are named; from three on a range is shorter.
SHORTEST_RANGE = 3


def some(names: Iterable[str], most: int = 3) -> str:
    """A few names for a sentence; those that differ in one running number are a range.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    >>> some([f"blocks.{i}.mlp" for i in (22, 20, 21, 23, 30)])
    'blocks.20–23.mlp, blocks.30.mlp'
    >>> some(["24", "22", "23", "3"])
    'modules 22–24, module 3'
    """
    parts = _ranges(list(dict.fromkeys(names)))
    told = ", ".join(text for text, _ in parts[:most])
    rest = sum(count for _, count in parts[most:])
    return f"{told} and {rest} more" if rest else told


def _ranges(names: list[str]) -> list[tuple[str, int]]:
    """The names in their order, and the number of them that each text stands for."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        for before, number, after in _numbers(name):
            groups.setdefault((before, after), {})[number] = name
    best: dict[str, tuple[str, str, int, int]] = {}
    for (before, after), numbers in groups.items():
        for first, last in _runs(sorted(numbers)):
            for k in range(first, last + 1):
                name = numbers[k]
                if name not in best or best[name][3] - best[name][2] < last - first:
                    best[name] = (before, after, first, last)
    out: list[tuple[str, int]] = []
    told: set[str] = set()
    for name in names:
        if name in told:
            continue
        run = best.get(name)
        members = [groups[run[0], run[1]][k] for k in range(run[2], run[3] + 1)] if run else []
        # A name may be in two runs (stages and blocks); what the other has told already breaks this one.
        if run is None or told & set(members) or len(members) < SHORTEST_RANGE:
            told.add(name)
            out.append((_named(name), 1))
            continue
        told |= set(members)
        out.append((_named(f"{run[0]}{run[2]}–{run[3]}{run[1]}", many=True), len(members)))
    return out


def _numbers(name: str) -> list[tuple[str, int, str]]:
    """Each whole number between dots or behind a #, with what is before and after it."""
    return [(name[: m.start()], int(m.group()), name[m.end() :]) for m in re.finditer(r"(?<![^.#])\d+(?![^.#])", name)]


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each stretch of consecutive numbers that is long enough."""
    out, start = [], 0
    for i in range(1, len(numbers) + 1):
        if i == len(numbers) or numbers[i] != numbers[i - 1] + 1:
            if i - start >= SHORTEST_RANGE:
                out.append((numbers[start], numbers[i - 1]))
            start = i
    return out


def _named(name: str, many: bool = False) -> str:
    """A bare number is read as a count, so it is said to be a module."""
    if not name:
        return "the model itself"
    return f"module{'s' if many else ''} {name}" if name[0].isdigit() else name
