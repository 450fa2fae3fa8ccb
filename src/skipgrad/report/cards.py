"""What to do now: a card per finding, the cures with what they did, and the lines that apply the best one."""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.core import Cure, Run, UnknownName, units
from skipgrad.core.rank import winner
from skipgrad.diagnosis import explain
from skipgrad.report.evidence import evidence
from skipgrad.report.marks import SHAPES, found
from skipgrad.report.text import clean, figure, spread, times


@dataclass(frozen=True)
class Card:
    """One finding.

    Attributes:
        page: its page in the documentation.
        explanation: what the check sees and why it matters.
        evidence: label and figure.
        cures: what became of the remedies it prescribes, one sentence each.
    """

    code: str
    title: str
    severity: str
    shape: str
    page: str
    explanation: str
    where: tuple[str, ...]
    evidence: tuple[tuple[str, str], ...]
    prescription: str
    cures: tuple[str, ...]


@dataclass(frozen=True)
class CureRow:
    """One remedy that was tried: texts, ready to be set in a table."""

    remedy: str
    state: str
    shape: str
    steps: str
    steps_spread: str
    seconds: str
    seconds_spread: str
    loss: str
    rate: str
    reason: str
    won: bool


def cards(run: Run) -> tuple[Card, ...]:
    """The findings, the gravest first."""
    tried = {c.remedy: c for c in run.cures}
    return tuple(
        Card(
            clean(f.code),
            clean(f.title),
            f.severity,
            SHAPES.get(f.severity, "?"),
            f"docs/checks/{clean(f.code)}.md",
            _explanation(f.code),
            tuple(clean(name) or "the model itself" for name in f.where),
            evidence(f.evidence),
            clean(f.prescription),
            tuple(_outcome(name, tried.get(name)) for name in f.remedies),
        )
        for f in found(run)
    )


def cure_rows(run: Run) -> tuple[CureRow, ...]:
    """The cures in the order they were tried."""
    best = winner(run.cures)
    return tuple(
        CureRow(
            clean(c.remedy),
            c.state,
            SHAPES.get(c.state, "?"),
            _ratio(c.steps_ratio, c),
            spread(c.steps_spread),
            _ratio(c.seconds_ratio, c),
            spread(c.seconds_spread),
            "–" if c.best_loss is None else _against(c),
            "–" if c.rate is None else f"{figure(c.rate)} (patient {figure(c.patient_rate)})",
            clean(c.reason),
            c is best,
        )
        for c in run.cures
    )


def _ratio(ratio: float | None, cure: Cure) -> str:
    if not cure.patient_trains:
        return "–"
    if ratio is None:
        return "–" if cure.state == "refused" else "never"
    return times(ratio)


def _against(cure: Cure) -> str:
    return f"{figure(cure.best_loss)} (patient {figure(cure.patient_best_loss)})"


def _outcome(name: str, cure: Cure | None) -> str:
    if cure is None:
        return f"{clean(name)} not tried"
    if not cure.patient_trains and cure.best_loss is not None:
        return f"{clean(name)} {cure.state}, best loss {_against(cure)}"
    gain = f", {units.ratio(cure.steps_ratio)} the steps" if cure.steps_ratio is not None else ""
    return f"{clean(name)} {cure.state}{gain}"


def _explanation(code: str) -> str:
    try:
        return explain(code)
    except UnknownName:  # a run written by a version with other checks
        return ""
