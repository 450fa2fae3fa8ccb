"""The order of cures, the most helpful first; it decides lists of cures, the winner, and which cure is measured."""

from __future__ import annotations

import math
from collections.abc import Iterable

from skipgrad.core.run import Cure

_ORDER = {"helped": 0, "no change": 1, "worse": 2, "refused": 3}


def ranked(cures: Iterable[Cure]) -> list[Cure]:
    """Cures by state; within a state by seconds to the patient's best loss, then by their own best loss.

    Seconds, not steps, as a cure whose steps are fewer and each of them slower is a loss to who waits for it. They are
    those of the machine that ran the race, so two cures close to one another may change places in the next one.

    A cure that helped without a ratio (its patient diverged or did not train) comes first of those that helped;
    elsewhere one without a ratio, which never reached the patient's best loss, comes last of its state.
    """

    def key(cure: Cure) -> tuple[int, float, float]:
        lacking = -math.inf if cure.state == "helped" else math.inf
        return _ORDER[cure.state], _known(cure.seconds_ratio, lacking), _known(cure.best_loss, math.inf)

    return sorted(cures, key=key)


def winner(cures: Iterable[Cure]) -> Cure | None:
    """The first of those that helped; None when none did."""
    return next((c for c in ranked(cures) if c.state == "helped"), None)


def nearest(cures: Iterable[Cure]) -> Cure | None:
    """The cure worth measuring: the winner, or else the first that ran to a loss; None when none did."""
    return next((c for c in ranked(cures) if c.state == "helped" or c.best_loss is not None), None)


def _known(value: float | None, lacking: float) -> float:
    return lacking if value is None or math.isnan(value) else value
