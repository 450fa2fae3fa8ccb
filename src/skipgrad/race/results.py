"""The result of a race, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from skipgrad.train.results import TrialResult


@dataclass(frozen=True)
class RaceResult:
    """A patient against its cures, under equal budgets.

    Attributes:
        patient: the patient's trials: the grid of rates on the first seed, then its best rate on the others.
        cures: the same for each cure that ran.
        dropped: cures that did not run, or not to the end, with the reason.
        rates: the best rate of each contestant; the patient's under None.
        notes: what to mind when reading the result, e.g. a best rate at the edge of the grid.
    """

    patient: tuple[TrialResult, ...]
    cures: dict[str, tuple[TrialResult, ...]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    rates: dict[str | None, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def best(self, name: str | None = None) -> list[TrialResult]:
        """The trials of a contestant (None: the patient) at its best rate, one a seed."""
        trials = self.patient if name is None else self.cures[name]
        return [r for r in trials if r.trial.rate == self.rates[name]]
