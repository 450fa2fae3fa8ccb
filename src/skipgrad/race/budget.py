"""The budget that every contestant of a race gets: the same learning rates around the typed one, the same seeds."""

from __future__ import annotations

# Multiples of the typed rate. In the first races the best rate of a cure lay within a factor of 4 of its patient's.
RATE_FACTORS = (1 / 3, 1.0, 3.0)
SEEDS = 3


def rates_around(rate: float) -> list[float]:
    """The grid of learning rates around one."""
    return [rate * factor for factor in RATE_FACTORS]


def seeds_from(seed: int, many: int = SEEDS) -> list[int]:
    """``many`` seeds in a row, beginning with ``seed``. The first one is used to choose the rates."""
    return [seed + k for k in range(many)]


def steps_of(contestants: int, rates: int, seeds: int, steps: int) -> int:
    """How many steps a race takes in all, for a progress bar.

    Args:
        contestants: how many there are, the patient among them.
        rates: how many rates the grid has.
        seeds: how many seeds there are.
        steps: the steps of one trial.
    """
    # Every rate on the first seed, then one rate on each of the others.
    return contestants * (rates + seeds - 1) * steps
