"""How S and B of each skip change over the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skipgrad.report.subjects import Subject, skip_norms
from skipgrad.report.text import clean, sample

MOST_STEPS = 40
# Each is two elements of the page, and a row of two px is the finest that can be seen.
MOST_CELLS = 4000
MOST_ROWS = 200


@dataclass(frozen=True)
class HeatMap:
    """Norms per skip and step.

    Attributes:
        who: whose skips: the patient's, or the cured net's where the patient has none.
        cells: records of skip, step, S and B as powers of ten; None for zero and what is no number.
        skips: names in order of execution; of a net of many, neighbours share a row.
        steps: steps shown.
        all_skips: how many skips were measured.
        all_steps: how many steps were measured (of a thinned run: kept).
        per_row: how many skips share a row at most; their figure is the root mean square.
    """

    who: str
    cells: tuple[dict[str, Any], ...]
    skips: tuple[str, ...]
    steps: tuple[int, ...]
    all_skips: int
    all_steps: int
    per_row: int = 1


def heat_map(who: tuple[Subject, ...]) -> HeatMap | None:
    """The heat map of the first net that has measured skips; None when none has."""
    for subject in who:
        if not subject.skips:
            continue
        measured = {r.skip for r in subject.skips}
        order = [s.name for s in subject.graph.skips if s.name in measured]
        order += sorted(measured - set(order))
        present = {r.step for r in subject.skips}
        steps = [step for step in subject.steps if step in present]
        size = -(-len(order) // MOST_ROWS)
        rows = [(_label(part), part) for i in range(0, len(order), size) if (part := order[i : i + size])]
        shown = sample(steps, max(8, min(MOST_STEPS, MOST_CELLS // len(rows))))
        norms = skip_norms(subject, set(shown))
        cells = []
        for step in shown:
            for label, part in rows:
                pairs = [norms[step, name] for name in part if (step, name) in norms]
                s, b = (_rms(column) for column in zip(*pairs, strict=True)) if pairs else (math.nan, math.nan)
                cells.append({"skip": label, "step": step, "S": _log(s), "B": _log(b)})
        return HeatMap(
            subject.who, tuple(cells), tuple(label for label, _ in rows), tuple(shown), len(order), len(steps), size
        )
    return None


def _label(names: list[str]) -> str:
    first, last = (clean(name) or "the model itself" for name in (names[0], names[-1]))
    return first if len(names) == 1 else f"{first} … {last}"


def _rms(norms: Sequence[float]) -> float:
    return math.hypot(*norms) / math.sqrt(len(norms))


def _log(norm: float) -> float | None:
    return round(math.log10(norm), 3) if norm > 0 and math.isfinite(norm) else None
