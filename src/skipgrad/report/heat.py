"""How S and B of each skip change over the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skipgrad.report.subjects import Subject, skip_norms
from skipgrad.report.text import clean, sample

MOST_STEPS = 40
MOST_CELLS = 8000


@dataclass(frozen=True)
class HeatMap:
    """Norms per skip and step.

    Attributes:
        who: whose skips: the patient's, or the cured net's where the patient has none.
        cells: records of skip, step, S and B as powers of ten; None for zero and what is no number.
        skips: names in order of execution, those that are shown.
        steps: steps shown.
        all_skips: how many skips were measured.
        all_steps: how many steps were measured.
    """

    who: str
    cells: tuple[dict[str, Any], ...]
    skips: tuple[str, ...]
    steps: tuple[int, ...]
    all_skips: int
    all_steps: int


def heat_map(who: tuple[Subject, ...]) -> HeatMap | None:
    """The heat map of the first net that has measured skips; None when none has."""
    for subject in who:
        if not subject.skips:
            continue
        norms = skip_norms(subject)
        measured = {name for _, name in norms}
        order = [s.name for s in subject.graph.skips if s.name in measured]
        order += sorted(measured - set(order))
        steps = sorted({step for step, _ in norms})
        names = sample(order, MOST_CELLS // 8)
        shown = sample(steps, max(8, min(MOST_STEPS, MOST_CELLS // len(names))))
        cells = []
        for step in shown:
            for name in names:
                s, b = norms.get((step, name), (math.nan, math.nan))
                cells.append({"skip": _label(name), "step": step, "S": _log(s), "B": _log(b)})
        return HeatMap(subject.who, tuple(cells), tuple(map(_label, names)), tuple(shown), len(order), len(steps))
    return None


def _label(name: str) -> str:
    return clean(name) or "the model itself"


def _log(norm: float) -> float | None:
    return round(math.log10(norm), 3) if norm > 0 and math.isfinite(norm) else None
