"""What a retrofit does to a net, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from skipgrad.core.skips import Skip
from skipgrad.core.units import number
from skipgrad.remedies.records import Left
from skipgrad.remedies.retrofit.places import Spot

SAME, NEW = "same output at once", "same function family, new start"

Make = tuple[str, dict[str, Any]]  # class in `rewrite` and its arguments


@dataclass(frozen=True)
class Value:
    """A parameter that is given other values once.

    Attributes:
        name: of the parameter.
        factor: what it is multiplied by; None: `fill` is written.
        fill: what is written where there is no factor.
        start: the share of its rows, from the first, that stay as they are: 2/3 where the values of a fused q, k, v are
            meant.
    """

    name: str
    factor: float | None = None
    fill: float = 0.0
    start: Fraction = Fraction(0)

    def write(self, parameter: torch.Tensor) -> None:
        """Gives the parameter its new values."""
        part = parameter[int(parameter.shape[0] * self.start) :] if self.start else parameter
        part.fill_(self.fill) if self.factor is None else part.mul_(self.factor)

    def __str__(self) -> str:
        rows = f" in the rows from {self.start} on" if self.start else ""
        return f"set to {number(self.fill)}{rows}" if self.factor is None else f"multiplied once{rows}"


@dataclass(frozen=True)
class Moved:
    """A norm that is taken from behind a merge to the front of the merge's branch.

    Attributes:
        path: of the norm.
        last: whether no skip follows: a new norm then stands in its old place.
    """

    path: str
    last: bool


@dataclass(frozen=True)
class Design:
    """What a retrofit does to a net.

    Attributes:
        edits: each operand that passes through a small module, and which one.
        values: parameters that are given other values once.
        unnormed: paths of norms that become their own scale and shift.
        moved: norms that go from behind a merge to the front of its branch.
        left: skips left alone, with the reason.
        same: whether the output is the same at once.
    """

    edits: tuple[tuple[Spot, Make], ...]
    values: tuple[Value, ...] = ()
    unnormed: tuple[str, ...] = ()
    moved: tuple[Moved, ...] = ()
    left: tuple[Left, ...] = ()
    same: bool = False


def told(spot: Spot, make: Make) -> str:
    """An edit in words."""
    name, args = make
    values = ", ".join(f"{k}={number(v) if isinstance(v, float) else v}" for k, v in args.items() if k != "axis")
    return f"{spot.side} through {name}({values})"


def short_add(skip: Skip) -> str | None:
    """Why a skip is not a short add whose branch a form can be put on; None when it is one."""
    if skip.kind != "add":
        return f"its merge is a {skip.kind}, not an add"
    if skip.long:
        return "it is a long skip: see scalelong"
    return None
