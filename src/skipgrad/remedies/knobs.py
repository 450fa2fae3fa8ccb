"""What of a remedy can be tuned: its options, each with the range in which a search looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """An option that is a number.

    Attributes:
        low: the lowest value tried.
        high: the highest.
        log: whether it is drawn evenly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """An option that is one of a few values.

    Attributes:
        values: texts, numbers or truth values; the remedy's default first.
    """

    values: tuple[str | float | bool, ...]


Knob = Span | Choice
