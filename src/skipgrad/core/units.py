"""Numbers as people read them."""

from __future__ import annotations

import math


def number(value: float | None, digits: int = 3) -> str:
    """A figure in ``digits`` significant digits; ``"–"`` for one that is missing.

    >>> number(0.000012345)
    '1.23e-05'
    >>> number(1234.5)
    '1,234'
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        return f"{value:.{digits - 1}e}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def ratio(value: float | None) -> str:
    """A ratio, e.g. ``"1.24×"``."""
    return "–" if value is None else f"{number(value)}×"


def percent(share: float | None) -> str:
    """A share of one as a percentage, e.g. ``"12.5 %"``."""
    if share is None:
        return "–"
    if math.isnan(share):
        return "NaN"
    return f"{number(100 * share)} %"


def seconds(value: float | None) -> str:
    """A duration, e.g. ``"3.2 s"`` or ``"2 min 05 s"``."""
    if value is None:
        return "–"
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 90:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"


def memory(size: float) -> str:
    """Bytes as a person reads them.

    >>> memory(512), memory(1_500_000), memory(14e9)
    ('512 bytes', '1.5 MB', '14 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{number(size / factor)} {unit}"
    return f"{size:.0f} bytes"


def shape(sizes: tuple[int, ...]) -> str:
    """``"1×64×56×56"``."""
    return "×".join(map(str, sizes)) or "scalar"


def shapes(fork: tuple[int, ...], merge: tuple[int, ...]) -> str:
    """From fork to merge; one shape when it stays."""
    return shape(fork) if fork == merge else f"{shape(fork)} → {shape(merge)}"
