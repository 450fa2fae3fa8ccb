"""Finds what a registry is filled with: the modules of one of our packages, and the entry points of other packages."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

# The first line of a module that is imported when it is asked for: ``reference``, ``another``: what it is
_HEAD = re.compile(r'"""(``[^`]+``(?:, ``[^`]+``)*): (.+?)\.?(?:""")?$')


class LeftOut(UserWarning):
    """Something of another package that skipgrad does without; the message says why."""


@dataclass(frozen=True)
class Head:
    """What the first line of a module says of an entry.

    Attributes:
        name: of the entry: the reference up to its colon.
        ref: how it is referred to, ``"cifar10:DIR"``.
        about: what it is, in a few words.
        module: the module's full name.
    """

    name: str
    ref: str
    about: str
    module: str


def modules(home: str) -> list[str]:
    """Full names of the modules of a package, in order of name; private ones are left out. Imports none of them."""
    return [f"{home}.{m.name}" for m in pkgutil.iter_modules(_folders(home)) if not m.name.startswith("_")]


@cache
def heads(home: str) -> tuple[Head, ...]:
    """Entries by what the first line of each module says, without importing one: plain names, then those with a colon.

    >>> [head.ref for head in heads("skipgrad.models.data")][:6]
    ['digits', 'flow', 'shapes', 'text', 'cifar100:DIR', 'cifar10:DIR']
    """
    found = []
    for folder in _folders(home):
        for path in sorted(Path(folder).glob("[!_]*.py")):
            with path.open(encoding="utf-8") as file:
                told = _HEAD.match(file.readline().rstrip())
            refs = re.findall("``(.+?)``", told[1]) if told else []
            found += [Head(r.partition(":")[0], r, told[2], f"{home}.{path.stem}") for r in refs if told]
    return tuple(sorted(found, key=lambda head: (":" in head.ref, head.ref)))


def _folders(home: str) -> list[str]:
    spec = importlib.util.find_spec(home)
    assert spec is not None, f"no package {home}"
    assert spec.submodule_search_locations, f"{home} is no package"
    return list(spec.submodule_search_locations)


@cache
def _ours() -> tuple[metadata.EntryPoint, ...]:
    """The entry points of installed packages in groups of ours. Read once: it opens a file of every package."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for package in metadata.distributions():
        if "[skipgrad." in (package.read_text("entry_points.txt") or ""):
            found.setdefault(package.name, [p for p in package.entry_points if p.group.startswith("skipgrad.")])
    return tuple(point for several in found.values() for point in several)


def points(group: str) -> list[metadata.EntryPoint]:
    """The entry points of a group, by package and name."""
    mine = (point for point in _ours() if point.group == group)
    return sorted(mine, key=lambda point: (package_of(point), point.name))


def package_of(point: metadata.EntryPoint) -> str:
    """The name of the distribution an entry point is from."""
    return point.dist.name if point.dist is not None else point.value.partition(":")[0].partition(".")[0]
