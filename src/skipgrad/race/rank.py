"""The order of cures: what helped most first. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from skipgrad.core.run import Cure

_ORDER = {"helped": 0, "no change": 1, "worse": 2, "refused": 3}


def ranked(cures: Iterable[Cure]) -> list[Cure]:
    """Cures by state; within a state by seconds to the patient's best loss, then by their own best loss.

    A cure that helped without a ratio (its patient diverged) comes first of those that helped; elsewhere one without a
    ratio, which never reached the patient's best loss, comes last of its state.
    """

    def key(cure: Cure) -> tuple[int, float, float]:
        lacking = float("-inf") if cure.state == "helped" else float("inf")
        time = cure.seconds_ratio if cure.seconds_ratio is not None else lacking
        return _ORDER[cure.state], time, cure.best_loss if cure.best_loss is not None else float("inf")

    return sorted(cures, key=key)
