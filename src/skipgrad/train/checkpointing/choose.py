"""Which units are computed again: the fewest seconds for the bytes that must be freed. Dynamic programming."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skipgrad.train.checkpointing.measure import Unit

BINS = 4096
PEAKS = 24  # sizes tried for the largest unit


def choose(units: Sequence[Unit], total: int, budget: float) -> tuple[tuple[int, ...], float]:
    """The units to compute again, by number, and the bytes held then at the worst moment.

    Minimises Σ seconds over sets of units none of which is inside another, subject to

        total − Σ gain + max inside ≤ budget

    where the largest unit counts in full, as all it saves is there again while its backward runs. For a largest size
    given, `best[i][b]` – the least time that frees b more bytes with units i, i+1, … – is the smaller of `best[i+1][b]`
    (unit i is left alone) and `seconds_i + best[end_i][b − gain_i]` (it is taken, and what is inside it passed
    over).
    Bytes are counted in 4,096ths of what must be freed, rounded so that the budget holds. Optimal but for that
    rounding.

    Args:
        units: outer ones before those inside them, as `measure` gives them.
        total: bytes that a forward saves.
        budget: bytes that may be held.

    Returns:
        Numbers of units, and the bytes. An empty choice when nothing need be done; when no choice meets the budget, the
        one that holds least.
    """
    if total <= budget or not units:
        return (), float(total)
    sizes = sorted({u.inside for u in units if u.gain > 0})
    if len(sizes) > PEAKS:
        sizes = [sizes[round(i * (len(sizes) - 1) / (PEAKS - 1))] for i in range(PEAKS)]
    best: tuple[float, tuple[int, ...]] | None = None
    for largest in sizes:
        need = total + largest - budget
        found = _least(units, need, largest)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    chosen = best[1] if best is not None else _smallest(units, total, sizes)
    return chosen, held(units, chosen, total)


def held(units: Sequence[Unit], chosen: Sequence[int], total: int) -> float:
    """Bytes held at the worst moment."""
    largest = max((units[i].inside for i in chosen), default=0)
    return float(total - sum(units[i].gain for i in chosen) + largest)


def _least(units: Sequence[Unit], need: float, largest: int) -> tuple[float, tuple[int, ...]] | None:
    """The least time that frees ``need`` bytes with units up to a size; None when they free less."""
    step = need / BINS
    many = len(units)
    best = np.full((many + 1, BINS + 1), np.inf)
    best[many, 0] = 0.0
    taken = np.zeros((many, BINS + 1), dtype=bool)
    places = np.arange(BINS + 1)
    for i in range(many - 1, -1, -1):
        unit = units[i]
        best[i] = best[i + 1]
        bins = int(unit.gain / step)
        if unit.gain <= 0 or unit.inside > largest or bins == 0:
            continue
        with_it = unit.seconds + best[unit.end, np.maximum(0, places - bins)]
        taken[i] = with_it < best[i]
        best[i] = np.where(taken[i], with_it, best[i])
    if not np.isfinite(best[0, BINS]):
        return None
    chosen, i, b = [], 0, BINS
    while i < many and b > 0:
        if taken[i, b]:
            chosen.append(i)
            b, i = max(0, b - int(units[i].gain / step)), units[i].end
        else:
            i += 1
    return float(best[0, BINS]), tuple(chosen)


def _smallest(units: Sequence[Unit], total: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """The choice that holds least, whatever it costs: for each largest size, the most bytes that can be freed."""
    options: list[tuple[int, ...]] = [()]
    for largest in sizes:
        most, take = [0] * (len(units) + 1), [False] * len(units)
        for i in range(len(units) - 1, -1, -1):
            unit = units[i]
            with_it = unit.gain + most[unit.end] if unit.inside <= largest else -1
            most[i], take[i] = max((most[i + 1], False), (with_it, True))
        chosen, i = [], 0
        while i < len(units):
            if take[i]:
                chosen.append(i)
            i = units[i].end if take[i] else i + 1
        options.append(tuple(chosen))
    return min(options, key=lambda c: held(units, c, total))
