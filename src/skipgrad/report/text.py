"""Figures and names as the report writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from skipgrad.core import units
from skipgrad.core.draw.words import clean as clean  # the report's names come from outside, too

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(value: float | None, digits: int = 3) -> str:
    """A number with its power of ten written out: ``"1.2×10⁻¹²"``."""
    text = units.number(value, digits)
    mantissa, e, power = text.partition("e")
    if not e or not power.lstrip("+-").isdigit():
        return text
    raised = str(int(power)).translate(_SUPERSCRIPT)
    return f"10{raised}" if float(mantissa) == 1 else f"{mantissa}×10{raised}"


def times(value: float | None, digits: int = 2) -> str:
    """A ratio: ``"0.05×"``; one with a power of ten stands without the second ×."""
    if value is None:
        return "–"
    text = figure(value, digits)
    return text if "10" in text and not text.isdigit() and text[-1] in "⁰¹²³⁴⁵⁶⁷⁸⁹" else f"{text}×"


def spread(pair: tuple[float, float] | None) -> str:
    """The range over the seeds: ``"0.04–0.05×"``; empty when there is none."""
    return "" if pair is None else f"{figure(pair[0], 2)}–{figure(pair[1], 2)}×"


def short(text: Any, most: int = 64) -> str:
    """A name from outside for a headline."""
    name = clean(text)
    return name if len(name) <= most else name[: most - 1] + "…"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """``"1 step"``, ``"20 steps"``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(names: Iterable[str], most: int = 4) -> str:
    """``"a, b and 3 more"``; the model's own forward has no name."""
    every = [clean(n) or "the model itself" for n in names]
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} more"


def value(thing: Any) -> str:
    """Any plain value, numbers as figures."""
    if isinstance(thing, bool) or thing is None:
        return {True: "yes", False: "no", None: "–"}[thing]
    if isinstance(thing, int):
        return f"{thing:,}"
    if isinstance(thing, float):
        return figure(thing)
    if isinstance(thing, dict):
        return ", ".join(f"{clean(k)} {value(v)}" for k, v in thing.items())
    if isinstance(thing, (list, tuple)):
        return ", ".join(value(v) for v in thing) or "none"
    return clean(thing)


def finite(number: float | None) -> bool:
    """Whether it is there and is a number."""
    return number is not None and math.isfinite(number)


def sample(items: Sequence[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly spaced, first and last included."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
