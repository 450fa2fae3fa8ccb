"""How long the paths are that the gradient takes, in a sentence."""

from __future__ import annotations

import math
from typing import Any

from skipgrad.core import Run
from skipgrad.report.text import figure, plural, short


def path_sentence(run: Run) -> str:
    """What `check` measured of the path lengths; empty where it measured none."""
    told: Any = run.meta.get("paths")
    if not isinstance(told, dict) or not isinstance(told.get("branches"), int):
        return ""
    means = [_mean(told.get("first"), "before the first step"), _mean(told.get("last"), "after the last")]
    if not any(means):
        return ""
    words = " and ".join(m for m in means if m)
    return (
        f"On average the gradient at the fork of {short(told.get('at', ''))} came through {words} "
        f"of {plural(told['branches'], 'branch', 'branches')} (signed mean path length)."
    )


def _mean(value: Any, when: str) -> str:
    return f"{figure(float(value), 2)} {when}" if isinstance(value, int | float) and math.isfinite(value) else ""
