"""The families of built-in nets: ``plain56`` is the family ``plain`` at depth 56."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from skipgrad.core import Registry, UnknownName, nearest


@dataclass(frozen=True)
class Family:
    """A family of nets that differ in depth.

    Attributes:
        make: builds one; its first argument is the depth, for a family that has depths.
        modality: what it takes; ``"other"`` is a list of images, for a detector.
        data: the built-in data it was made for.
        first: smallest depth; None for a net of one depth only.
        every: depths are ``first``, ``first + every``, …
        formula: the same, for messages.
        typical: some depths that it has, for hints and tests.
        depths: the depths, where they follow no rule; ``first`` and ``every`` are then not looked at.
        size: height and width of example images, where it is not that of the data.
    """

    make: Callable[..., nn.Module]
    modality: Literal["image", "text", "other"]
    data: str
    first: int | None = None
    every: int = 1
    formula: str = ""
    typical: tuple[int, ...] = (4, 12)
    depths: tuple[int, ...] = ()
    size: int | None = None


FAMILIES: Registry[Family] = Registry("skipgrad model family", Family, home="skipgrad.models.nets")

_DEEPEST = 2000


def typical_names() -> list[str]:
    """Some names that exist, for the nearest-name hint and for `conformity` tests."""
    names = []
    for name, family in FAMILIES.items():
        depths = family.typical if family.first is not None else ("",)
        names += [f"{name}{depth}" for depth in depths]
    return names


def look_up(name: str) -> tuple[Family, int | None]:
    """The family of ``name`` and its depth.

    Raises:
        UnknownName: no such family, or a depth the family does not have; with the depths nearest to it.
    """
    doing = f"resolving the model 'skipgrad:{name}'"
    match = re.fullmatch(r"([a-z_]+?)(\d*)", name)
    if match is None or match[1] not in FAMILIES:
        raise UnknownName(doing, received=f"no built-in model {name!r}", todo=nearest(name, typical_names()))
    family = FAMILIES.get(match[1])
    if family.first is None:
        if match[2]:
            raise UnknownName(doing, received=f"{match[1]} has no depths", todo=f"use skipgrad:{match[1]}")
        return family, None
    if not match[2]:
        shown = ", ".join(n for n in typical_names() if re.fullmatch(rf"{match[1]}\d+", n))
        raise UnknownName(
            doing, received=f"{match[1]} without a depth", todo=f"add one ({family.formula}), for example {shown}"
        )
    depth = int(match[2])
    if family.depths:
        if depth not in family.depths:
            near = sorted(sorted(family.depths, key=lambda d: abs(d - depth))[:2])
            raise UnknownName(
                doing,
                received=f"depth {depth}; {match[1]} has depths {family.formula}",
                todo="did you mean " + " or ".join(f"{match[1]}{d}" for d in near) + "?",
            )
        return family, depth
    if depth < family.first or depth > _DEEPEST or (depth - family.first) % family.every:
        lower = max(0, (min(depth, _DEEPEST) - family.first) // family.every)
        near = [family.first + family.every * k for k in (lower, lower + 1)]
        raise UnknownName(
            doing,
            received=f"depth {depth}; {match[1]} has depths {family.formula}, up to {_DEEPEST}",
            todo="did you mean " + " or ".join(f"{match[1]}{d}" for d in near if d <= _DEEPEST) + "?",
        )
    return family, depth
