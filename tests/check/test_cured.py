"""After a cure the same measurement is taken again, and a finding that stays is said to stay."""

from __future__ import annotations

from skipgrad.check.cured import after_cure
from skipgrad.core import Finding
from skipgrad.core.run import Severity, State


def finding(code: str, state: State, severity: Severity = "warning", said: str = "why") -> Finding:
    return Finding(code, "title", severity, state, prescription=said)


def test_what_became_of_each_finding() -> None:
    before = [
        finding("SG001", "found", "error"),
        finding("SG003", "found"),
        finding("SG006", "found"),
        finding("SG009", "found"),
        finding("SG007", "found", "info"),
        finding("SG002", "passed"),
    ]
    after = [
        finding("SG001", "found", "warning", "half of it"),
        finding("SG003", "passed"),
        finding("SG006", "skipped", said="too few"),
        finding("SG009", "found", "info"),
        finding("SG007", "found"),
    ]
    assert after_cure("zero-init", before, after) == (
        "with zero-init SG001 stays (warning): half of it",
        "with zero-init SG003 is gone, measured again (why)",
        "with zero-init SG006 could not be judged again: too few",
        "with zero-init SG009 is gone, measured again (why)",
    )
