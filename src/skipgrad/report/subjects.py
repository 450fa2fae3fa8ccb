"""Who was measured: the patient, and the cured net when a cure was measured too."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from skipgrad.core import Cure, LayerRow, Run, SkipGraph, SkipRow
from skipgrad.report.text import clean


@dataclass(frozen=True)
class Subject:
    """One measured net.

    Attributes:
        who: ``"patient"`` or ``"cured by add-skips"``.
        graph: its skips and layers; made up from the rows when the run has none.
        skips: its ledger rows.
        layers: its layer rows.
        rate: learning rate of the measured trial; None when unknown.
        has_graph: False for a made-up graph.
    """

    who: str
    graph: SkipGraph
    skips: tuple[SkipRow, ...]
    layers: tuple[LayerRow, ...]
    rate: float | None = None

    @property
    def steps(self) -> list[int]:
        """Steps measured, ascending."""
        return sorted({r.step for r in self.skips} | {r.step for r in self.layers})


def winner(run: Run) -> Cure | None:
    """The cure that helped most: fewest steps to the patient's best loss, then the lowest loss."""
    helped = [c for c in run.cures if c.state == "helped"]

    def key(cure: Cure) -> tuple[float, float]:
        steps = math.inf if cure.steps_ratio is None or math.isnan(cure.steps_ratio) else cure.steps_ratio
        loss = math.inf if cure.best_loss is None or math.isnan(cure.best_loss) else cure.best_loss
        return steps, loss

    return min(helped, key=key, default=None)


def subjects(run: Run) -> tuple[Subject, ...]:
    """The patient first; the net cured by the winner (else by any remedy that was measured) after it."""
    patient = next((t for t in run.trials if t.measured and t.remedy is None), None)
    patient = patient or next((t for t in run.trials if t.remedy is None), None)
    key = patient.id if patient else min([*run.skip_rows, *run.layer_rows], default=0)
    skips, layers = run.skip_rows.get(key, ()), run.layer_rows.get(key, ())
    out = [Subject("patient", run.graph or SkipGraph(()), skips, layers, patient.rate if patient else None)]
    best = winner(run)
    cured = [t for t in run.trials if t.measured and t.remedy is not None]
    if best:
        cured.sort(key=lambda t: t.remedy != best.remedy)
    for trial in cured[:1]:
        # Only "cured" when it was: a remedy that was measured and did not help is called by its name.
        who = f"{'cured by' if best and trial.remedy == best.remedy else 'with'} {clean(trial.remedy)}"
        graph = run.graphs.get(trial.id, run.graph) or SkipGraph(())
        rows = run.skip_rows.get(trial.id, ()), run.layer_rows.get(trial.id, ())
        out.append(Subject(who, graph, *rows, trial.rate))
    return tuple(out)


def skip_norms(subject: Subject) -> dict[tuple[int, str], tuple[float, float]]:
    """‖S‖ and ‖B‖ by step and skip; the backwards of one step count together (root of the sum of squares)."""
    sums: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for r in subject.skips:
        sums[r.step, r.skip].append((r.skip_norm, r.branch_norm))
    # hypot does not overflow where a sum of squares would
    return {k: (math.hypot(*(s for s, _ in v)), math.hypot(*(b for _, b in v))) for k, v in sums.items()}


def share(skip_norm: float, branch_norm: float) -> float | None:
    """‖S‖² / (‖S‖² + ‖B‖²); None where that is no number."""
    if not (math.isfinite(skip_norm) and math.isfinite(branch_norm)):
        return None
    whole = math.hypot(skip_norm, branch_norm)
    return (skip_norm / whole) ** 2 if whole > 0 else None
