"""The result of a trial, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.core.run import LossPoint, Trial


@dataclass(frozen=True)
class TrialResult:
    """One trial and its losses.

    Attributes:
        trial: its record, with the state it ended in.
        losses: one a step; the last one is not finite when the trial diverged.
        lines: Python to paste that applies the remedy under trial, where the treatment has it.
    """

    trial: Trial
    losses: tuple[LossPoint, ...] = ()
    lines: str = ""

    @property
    def diverged(self) -> bool:
        """Whether a loss that is not finite ended it."""
        return self.trial.state == "diverged"
