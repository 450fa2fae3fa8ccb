"""What a check is, and the four verdicts it may return."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from skipgrad.core import Finding, Measurements, Registry
from skipgrad.core.run import Severity, State
from skipgrad.diagnosis._coverage import Coverage, Need, coverage
from skipgrad.diagnosis._prescribe import possible


@dataclass(frozen=True)
class Judgement:
    """What a check says of one run, before code and title are put to it."""

    state: State
    prescription: str
    severity: Severity | None = None
    where: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong with the gradient of a net.

    Calling it with a `Measurements` gives its `Finding`.

    Attributes:
        code: stable, ``"SG001"``.
        title: a few words, of what is wrong when it is found.
        severity: of the finding, unless the verdict says another.
        explanation: two or three plain sentences: what it sees and why it matters.
        judge: the check itself.
        needs: what has to be covered for "passed": ``"steps"`` (enough of those that ran, no long stretch of them
            unseen), ``"skips"`` (half of the skips). Where it is not, the finding is ``"skipped"``, with the reason.
    """

    code: str
    title: str
    severity: Severity
    explanation: str
    judge: Callable[[Measurements], Judgement]
    needs: tuple[Need, ...] = ()

    def __call__(self, measured: Measurements, seen: Coverage | None = None) -> Finding:
        """Judges; ``seen`` is the coverage, for whoever has worked it out already."""
        verdict = self.judge(measured)
        seen = coverage(measured) if seen is None else seen
        if verdict.state == "passed" and (why := seen.wanting(self.needs)):
            verdict = skipped(f"nothing was found, but {why}")
        return Finding(
            code=self.code,
            title=self.title,
            severity=verdict.severity or self.severity,
            state=verdict.state,
            where=tuple(dict.fromkeys(verdict.where)),
            evidence={key: plain(value) for key, value in verdict.evidence.items()},
            prescription=verdict.prescription,
            remedies=possible(measured, verdict.remedies),
            coverage=seen.figures(),
        )


CHECKS: Registry[Check] = Registry(
    "check", Check, home="skipgrad.diagnosis.checks", group="skipgrad.checks", key="code"
)


def found(
    prescription: str,
    *,
    severity: Severity | None = None,
    where: Sequence[str] = (),
    evidence: dict[str, Any] | None = None,
    remedies: Sequence[str] = (),
) -> Judgement:
    """The check applies, and what it looks for is there."""
    return Judgement("found", prescription, severity, tuple(where), evidence or {}, tuple(remedies))


def passed(prescription: str, evidence: dict[str, Any] | None = None) -> Judgement:
    """The check applies, could be judged, and found nothing."""
    return Judgement("passed", prescription, evidence=evidence or {})


def not_applicable(reason: str) -> Judgement:
    """The net has nothing this check is about."""
    return Judgement("not applicable", reason)


def skipped(reason: str) -> Judgement:
    """The check applies, but what it needs was not measured."""
    return Judgement("skipped", reason)


def plain(value: Any) -> Any:
    """A figure as strict JSON can hold it: six digits, and infinities and NaN as text."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
