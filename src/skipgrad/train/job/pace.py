"""Which steps of a training are measured: by their number alone, so that a run that goes on measures the same."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from skipgrad.ledger import Ledger

FIRST = 20  # steps measured whatever they cost, as a start is where nets fail
PLAIN = 6  # and this many plain ones, to compare with
WARM = 3  # steps that are not timed
SHARE, FREE = 0.01, 1.0  # of the time, that measuring may cost; and seconds in all that it may cost in any case
_NEVER = 1 << 60


class Pace:
    """Every n-th step; where n is not given it is chosen once, after the first steps, from what measuring costs here.

    A ledger's own budget follows the clock, and the rows it leaves differ from run to run. A training that is killed
    and goes on has to leave the rows of one that was not, so n is chosen once and kept in the checkpoint.

    Args:
        every: n; None to have it chosen.
        steps: of the training.

    Attributes:
        every: n, once it is known.
    """

    def __init__(self, every: int | None, steps: int) -> None:
        self.every, self._steps = every, steps
        self._free = every is None
        self._times: tuple[list[float], list[float]] = ([], [])

    def before(self, ledger: Ledger, step: int) -> None:
        """A step begins."""
        if not self._free:
            ledger.every = self.every or _NEVER
        elif step < FIRST:
            ledger.every = 1
        else:
            ledger.every = self.every or _NEVER

    def after(self, step: int, seconds: float) -> None:
        """A step took so long."""
        if not self._free or self.every is not None or step < WARM:
            return
        self._times[step >= FIRST].append(seconds)
        if step >= FIRST + PLAIN - 1:
            self.every = self._chosen()

    def _chosen(self) -> int:
        measured, plain = self._times
        if not measured or not plain:
            return 100  # it was interrupted within these steps: nothing to compare with
        usual = median(plain)
        cost = self._steps * max(0.0, median(measured) - usual)
        return max(1, math.ceil(cost / (FREE + SHARE * self._steps * usual)))

    def state_dict(self) -> dict[str, Any]:
        """What was chosen."""
        return {"every": self.every}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with what was chosen."""
        if self._free:
            self.every = state["every"]
