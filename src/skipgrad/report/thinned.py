"""Which measured steps the report is made of, when the run file could not keep all."""

from __future__ import annotations

from skipgrad.core import Run
from skipgrad.report.subjects import subject_trials


def thinned(run: Run) -> tuple[str, ...]:
    """One sentence a measured net of whose steps some are left out, the patient first."""
    out = []
    for who, trial in subject_trials(run):
        if (kept := run.thinned.get(trial)) is None:
            continue
        net = "" if who == "patient" else f" of the net {who}"
        out.append(
            f"Of {kept.steps:,} measured steps{net} every {ordinal(kept.every)} is shown and counted here, with "
            "the first and the last; steps that were not finite are counted all. The run file keeps every step up to "
            f"the {ordinal(kept.dense)}, then ever fewer."
        )
    return tuple(out)


def ordinal(n: int) -> str:
    """``"64th"``, ``"2nd"``."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"
