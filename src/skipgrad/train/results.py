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
        whole_from: the first step that was taken with the whole net, where the treatment leaves blocks out at first.
    """

    trial: Trial
    losses: tuple[LossPoint, ...] = ()
    lines: str = ""
    whole_from: int = 0

    @property
    def diverged(self) -> bool:
        """Whether a loss that is not finite ended it."""
        return self.trial.state == "diverged"
