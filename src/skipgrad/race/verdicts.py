"""Turns the result of a race into one `Cure` record for each cure."""

from __future__ import annotations

from skipgrad.core.run import Cure
from skipgrad.race.compare import compare
from skipgrad.race.results import RaceResult


def verdicts(result: RaceResult) -> list[Cure]:
    """One `Cure` for each contestant of a race, in its order; those dropped come last, as ``"refused"``."""
    patient = result.best()
    ran = [compare(patient, result.best(name), name) for name in result.cures]
    return ran + [Cure(name, "refused", reason) for name, reason in result.dropped.items()]
