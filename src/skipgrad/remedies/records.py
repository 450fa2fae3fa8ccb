"""What a plan says and what a verification found: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skipgrad.core.branches import Left
from skipgrad.core.units import number

__all__ = ["Checked", "CheckedState", "Edit", "Left", "Verification"]

CheckedState = Literal["passed", "failed", "not applicable"]


@dataclass(frozen=True)
class Edit:
    """One thing a plan will do.

    Attributes:
        where: path of the module edited.
        what: what is done there, in words.
        skip: name of the skip it belongs to; of the skip to be, for an added one.
        before: the figure or form before.
        after: the figure or form after.
        factor: what is multiplied by, where the edit is a multiplication known in advance.
    """

    where: str
    what: str
    skip: str = ""
    before: str = ""
    after: str = ""
    factor: float | None = None

    def __str__(self) -> str:
        times = "" if self.factor is None else f" × {number(self.factor)}"
        change = f" ({self.before} → {self.after})" if self.before or self.after else ""
        return f"{self.where or 'root'}: {self.what}{times}{change}"


@dataclass(frozen=True)
class Checked:
    """One thing that was checked; ``residual`` is its own error, None where it does not apply."""

    what: str
    state: CheckedState
    residual: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Verification:
    """What could be checked of an applied remedy."""

    remedy: str
    checks: tuple[Checked, ...]

    @property
    def residual(self) -> float | None:
        """The largest residual of the checks that apply; None when none does."""
        known = [c.residual for c in self.checks if c.residual is not None]
        # max() would drop a NaN that is not first.
        return None if not known else (float("nan") if any(r != r for r in known) else max(known))

    @property
    def ok(self) -> bool:
        """No check failed, and at least one passed."""
        states = [c.state for c in self.checks]
        return "failed" not in states and "passed" in states

    def __str__(self) -> str:
        lines = [f"{self.remedy}: {'verified' if self.ok else 'not verified'}"]
        for c in self.checks:
            figure = "" if c.residual is None else f", residual {number(c.residual)}"
            lines.append(f"  {c.state}: {c.what}{figure}{f' – {c.reason}' if c.reason else ''}")
        return "\n".join(lines)
