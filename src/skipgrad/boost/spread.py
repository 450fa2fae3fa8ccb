"""Medians with their bootstrap intervals, where a run that failed counts as infinitely long."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BIG = 1e12  # stands for what never came; a percentile between it and a figure is as good as it
CONFIDENCE = 0.95
RESAMPLES = 4000


def middle(values: Sequence[float]) -> float | None:
    """The median; None for no values, and where it would be infinite."""
    return _told(float(np.median(_capped(values)))) if values else None


def interval(values: Sequence[float]) -> tuple[float | None, float | None] | None:
    """The percentile-bootstrap interval of the median (95 %); None for fewer than two values.

    An end is None where it is infinite. Few values make a crude interval: of five it is nearly their range.
    """
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None
    kept = _capped(values)
    if float(kept.min()) == float(kept.max()):
        return _told(float(kept[0])), _told(float(kept[0]))
    drawn = bootstrap(
        (kept,),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return _told(float(drawn.low)), _told(float(drawn.high))


def _capped(values: Sequence[float]) -> np.ndarray:
    return np.array([min(v, BIG) if not math.isnan(v) else BIG for v in values])


def _told(value: float) -> float | None:
    return None if value > BIG / 1e6 else value
