"""From a race to its cures' records."""

from __future__ import annotations

from collections.abc import Mapping

from skipgrad.core.run import Cure
from skipgrad.race.compare import compare
from skipgrad.race.results import RaceResult


def verdicts(result: RaceResult, lines: Mapping[str, str] | None = None) -> list[Cure]:
    """One `Cure` for each contestant of a race, in its order; those dropped come last, as ``"refused"``.

    Args:
        result: the race.
        lines: by remedy, Python that applies it.
    """
    lines = lines or {}
    patient = result.best()
    ran = [compare(patient, result.best(name), name, lines.get(name, "")) for name in result.cures]
    return ran + [Cure(name, "refused", reason, lines="") for name, reason in result.dropped.items()]
