"""How fast a training is, and how long it will take, in a few words."""

from __future__ import annotations

import time

EACH = 0.2  # seconds from one word to the next
SMOOTH = 0.9


class Speed:
    """Called after each step; says something now and then.

    Args:
        samples: of a step.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._told, self._step = time.perf_counter(), None
        self._rate: float | None = None

    def __call__(self, step: int, steps: int, loss: float) -> str | None:
        """The words; None when it is too soon."""
        now = time.perf_counter()
        if self._step is None:
            self._told, self._step = now, step
            return f"loss {loss:.4g}"
        if now - self._told < EACH and step != steps:
            return None
        rate = (step - self._step) / max(1e-9, now - self._told)
        self._rate = rate if self._rate is None else SMOOTH * self._rate + (1 - SMOOTH) * rate
        self._told, self._step = now, step
        left = (steps - step) / self._rate
        return f"loss {loss:.4g}, {self._rate * self._samples:,.0f} samples/s, {_time(left)} left"


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
