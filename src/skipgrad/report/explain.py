"""One check in short: what it sees, why it matters, and this run's figures beside the threshold."""

from __future__ import annotations

import textwrap

from skipgrad.core import Run
from skipgrad.diagnosis import CHECKS
from skipgrad.report.evidence import evidence
from skipgrad.report.text import clean, listed

WIDTH = 98


def explained(run: Run, code: str) -> str:
    """The short form of a check's page with the figures of a run, as lines of text.

    Args:
        run: which findings and figures.
        code: of the check, ``"SG006"``.

    Raises:
        UnknownName: no check has this code.
    """
    check = CHECKS.get(code)
    finding = next((f for f in run.findings if f.code == code), None)
    lines = [f"{code} · {check.title}", "", *textwrap.wrap(check.explanation, WIDTH), ""]
    if finding is None:
        return "\n".join([*lines, "This run was not diagnosed with this check.", _page(code)])
    state = f"found, {finding.severity}" if finding.state == "found" else finding.state
    lines += [f"In this run: {state}.", *textwrap.wrap(clean(finding.prescription), WIDTH), ""]
    figures = evidence(finding.evidence)
    wide = max((len(label) for label, _ in figures), default=0)
    # What the figures are held against comes first.
    figures = tuple(sorted(figures, key=lambda row: "threshold" not in row[0]))
    lines += [f"  {label:<{wide}}  {text}" for label, text in figures]
    if figures:
        lines.append("")
    if finding.where:
        lines += [f"Where, the worst first: {listed(finding.where, 8)}", ""]
    if seen := finding.coverage:
        lines += [
            "Measured: "
            + ", ".join(
                f"{seen[what]} of {seen[f'{what}_run']} {what}"
                for what in ("steps", "skips", "layers")
                if what in seen and f"{what}_run" in seen
            ),
            "",
        ]
    return "\n".join([*lines, _page(code)])


def _page(code: str) -> str:
    return f"The whole of it: docs/checks/{code}.md"
