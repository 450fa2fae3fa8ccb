"""What findings prescribe, in the order in which it is worth trying."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core import Finding
from skipgrad.core.run import SEVERITIES


def prescriptions(findings: Sequence[Finding]) -> list[str]:
    """Names of remedies, each once: the first choice of every finding before the second of any, the gravest first.

    Findings that found nothing count for nothing.
    """
    found = [f for f in findings if f.state == "found"]
    found.sort(key=lambda f: -SEVERITIES.index(f.severity))  # stable: by code within a severity
    depth = max((len(f.remedies) for f in found), default=0)
    return list(dict.fromkeys(f.remedies[k] for k in range(depth) for f in found if k < len(f.remedies)))
