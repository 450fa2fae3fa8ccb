"""The state of each check as a mark: a shape and a word, so that no colour carries meaning alone."""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.core import Finding, Run
from skipgrad.report.text import clean

# Shape and word of a state; severities stand for "found".
SHAPES = {
    "error": "◆",
    "warning": "▲",
    "info": "●",
    "passed": "✓",
    "not applicable": "–",
    "skipped": "…",
    "helped": "✓",
    "no change": "=",
    "worse": "▼",
    "refused": "–",
}
RANK = {"error": 0, "warning": 1, "info": 2}
# Whether the net learns is what it is trained for: told before any figure of its gradient.
FIRST = "SG012"


@dataclass(frozen=True)
class Mark:
    """One check's state.

    Attributes:
        code: of the check.
        title: its title.
        state: ``"error"``, ``"warning"`` or ``"info"`` when found, else the finding's state.
        shape: the glyph that stands for it.
        reason: why it could not judge, or what it prescribes.
    """

    code: str
    title: str
    state: str
    shape: str
    reason: str


def found(run: Run) -> list[Finding]:
    """The findings that are problems: whether it learns, then the gravest first."""
    return sorted(
        (f for f in run.findings if f.state == "found"),
        key=lambda f: (f.code != FIRST, RANK.get(f.severity, 3), f.code),
    )


def severities(run: Run) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The gravest severity and the codes of the findings that name a skip or layer, by its name."""
    named: dict[str, tuple[str, tuple[str, ...]]] = {}
    for f in found(run):
        for name in f.where:
            severity, codes = named.get(name, (f.severity, ()))
            named[name] = (severity, (*codes, clean(f.code)))
    return named


def marks(run: Run) -> tuple[Mark, ...]:
    """One mark a check, in order of code."""
    out = []
    for f in run.findings:
        state = f.severity if f.state == "found" else f.state
        out.append(Mark(clean(f.code), clean(f.title), state, SHAPES.get(state, "?"), clean(f.prescription)))
    return tuple(out)
