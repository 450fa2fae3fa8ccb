"""Who was measured: the patient, and the cured net when a cure was measured too."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from skipgrad.core import LayerRow, Measurements, Run, SkipGraph, SkipRow, Trial
from skipgrad.core.rank import winner
from skipgrad.report.text import clean

# A step is shown when it has this share of the rows of the fullest one. Of a step that a thinned run file does not keep
# but where something was not finite there are one or two rows, which are for the checks to count.
WHOLE = 0.2


@dataclass(frozen=True)
class Subject:
    """One measured net.

    Attributes:
        who: ``"patient"`` or ``"cured by add-skips"``.
        graph: its skips and layers; empty when the run has none.
        skips: its ledger rows.
        layers: its layer rows.
        rate: learning rate of the measured trial; None when unknown.
    """

    who: str
    graph: SkipGraph
    skips: tuple[SkipRow, ...]
    layers: tuple[LayerRow, ...]
    rate: float | None = None

    @cached_property
    def steps(self) -> list[int]:
        """Steps measured, ascending, without those of which a thinned run file keeps single rows only."""
        found = Counter(r.step for r in self.skips) + Counter(r.step for r in self.layers)
        most = max(found.values(), default=0)
        return sorted(step for step, rows in found.items() if rows >= WHOLE * most)

    @property
    def measurements(self) -> Measurements:
        """Its rows as diagnosis takes them."""
        return Measurements(self.graph, self.skips, self.layers)


def subjects(run: Run) -> tuple[Subject, ...]:
    """The patient first; the net cured by the winner (else by any remedy that was measured) after it."""
    patient, key = run.patient(), run.patient_id()
    skips, layers = run.skip_rows.get(key, ()), run.layer_rows.get(key, ())
    out = [Subject("patient", run.graph or SkipGraph(()), skips, layers, patient.rate if patient else None)]
    for who, trial in _cured(run):
        graph = run.graphs.get(trial.id, run.graph) or SkipGraph(())
        rows = run.skip_rows.get(trial.id, ()), run.layer_rows.get(trial.id, ())
        out.append(Subject(who, graph, *rows, trial.rate))
    return tuple(out)


def subject_trials(run: Run) -> list[tuple[str, int]]:
    """Name and trial of each of the `subjects`."""
    return [("patient", run.patient_id()), *((who, trial.id) for who, trial in _cured(run))]


def _cured(run: Run) -> list[tuple[str, Trial]]:
    best = winner(run.cures)
    cured = [t for t in run.trials if t.measured and t.remedy is not None]
    if best:
        cured.sort(key=lambda t: t.remedy != best.remedy)
    # Only "cured" when it was: a remedy that was measured and did not help is called by its name.
    return [(f"{'cured by' if best and t.remedy == best.remedy else 'with'} {clean(t.remedy)}", t) for t in cured[:1]]


def skip_norms(subject: Subject, steps: Collection[int] | None = None) -> dict[tuple[int, str], tuple[float, float]]:
    """‖S‖ and ‖B‖ by step and skip, of some steps or of all.

    The backwards of one step count together (root of the sum of squares).
    """
    sums: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for r in subject.skips:
        if steps is None or r.step in steps:
            sums[r.step, r.skip].append((r.skip_norm, r.branch_norm))
    # hypot does not overflow where a sum of squares would
    return {k: (math.hypot(*(s for s, _ in v)), math.hypot(*(b for _, b in v))) for k, v in sums.items()}


def share(skip_norm: float, branch_norm: float) -> float | None:
    """‖S‖² / (‖S‖² + ‖B‖²); None where that is no number."""
    if not (math.isfinite(skip_norm) and math.isfinite(branch_norm)):
        return None
    whole = math.hypot(skip_norm, branch_norm)
    return (skip_norm / whole) ** 2 if whole > 0 else None
