"""The learning rate over the steps: linear warm-up, then constant or cosine.

Whoever else steers the rate (a remedy) is left in charge: a rate found changed is carried along in proportion.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from skipgrad.core.recipe import ScheduleName


def factor(step: int, steps: int, warmup: float, schedule: ScheduleName) -> float:
    """What the base rate is multiplied with at ``step`` (from 0) of ``steps``; in (0, 1]."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


class Rates:
    """Sets the rate of every parameter group before each step.

    Args:
        optimizer: its groups' rates, as found, are the base rates.
        steps: of the trial.
        warmup: share of the steps that rise.
        schedule: what follows.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int, warmup: float, schedule: ScheduleName) -> None:
        self._optimizer = optimizer
        self._at = partial(factor, steps=steps, warmup=warmup, schedule=schedule)
        self._base = [g["lr"] for g in optimizer.param_groups]
        self._last = list(self._base)
        self._factor = 1.0

    def set(self, step: int) -> None:
        """Sets the rates of ``step``."""
        now = self._at(step)
        if now == self._factor:
            return
        for i, group in enumerate(self._optimizer.param_groups):
            if i >= len(self._base):  # a group a remedy added later
                self._base.append(group["lr"])
                self._last.append(group["lr"])
            if group["lr"] == self._last[i]:
                group["lr"] = self._base[i] * now
            else:
                group["lr"] *= now / self._factor
                self._base[i] = group["lr"] / now
            self._last[i] = group["lr"]
        self._factor = now
