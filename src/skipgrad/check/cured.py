"""What became of the findings under the cure: the same measurement again, and a finding that stays is said to stay."""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.core import Finding


def after_cure(remedy: str, before: Sequence[Finding], after: Sequence[Finding]) -> tuple[str, ...]:
    """Sentences on the findings of the patient that prescribed a cure, as the cured net was measured.

    Args:
        remedy: what was done.
        before: the patient's findings.
        after: the cured net's.
    """
    now = {f.code: f for f in after}
    out = []
    for f in before:
        if f.state != "found" or f.severity == "info":
            continue
        then = now.get(f.code)
        if then is None or then.state in ("skipped", "not applicable"):
            why = f": {then.prescription}" if then is not None else ""
            out.append(f"with {remedy} {f.code} could not be judged again{why}")
        elif then.state == "passed" or then.severity == "info":
            out.append(f"with {remedy} {f.code} is gone, measured again ({then.prescription})")
        else:
            out.append(f"with {remedy} {f.code} stays ({then.severity}): {then.prescription}")
    return tuple(out)
