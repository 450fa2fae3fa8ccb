"""What every contestant of a race gets: the same rates around the typed one, and the same seeds."""

from __future__ import annotations

# Of the typed rate: the best rate of a cure lay within a factor of 4 of its patient's in the first races.
RATE_FACTORS = (1 / 3, 1.0, 3.0)
SEEDS = 3


def rates_around(rate: float) -> list[float]:
    """The grid of learning rates around one."""
    return [rate * factor for factor in RATE_FACTORS]


def seeds_from(seed: int, many: int = SEEDS) -> list[int]:
    """``many`` seeds from one on; the first one chooses the rates."""
    return [seed + k for k in range(many)]


def steps_of(contestants: int, rates: int, seeds: int, steps: int) -> int:
    """How many steps a race takes, the patient's among them; for a progress bar."""
    return contestants * (rates + seeds - 1) * steps
