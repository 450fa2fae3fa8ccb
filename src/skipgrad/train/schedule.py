"""The learning rate over the steps: linear warm-up, then constant, cosine, linear, WSD or in steps.

Whoever else steers the rate (a remedy) is left in charge: a rate found changed is carried along in proportion.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch


def factor(
    step: int,
    steps: int,
    warmup: float,
    schedule: str,
    *,
    milestones: tuple[float, ...] = (0.5, 0.75),
    gamma: float = 0.1,
    decay: float = 0.2,
) -> float:
    """What the base rate is multiplied with at ``step`` (from 0) of ``steps``; in (0, 1].

    Args:
        step: from 0.
        steps: of the training.
        warmup: share of the steps that rise linearly.
        schedule: constant; cosine: ½(1+cos πt); linear: 1−t; wsd (warm-up, stable, decay, arXiv 2404.06395): 1, and
            linear to zero in the last ``decay`` of the steps; multistep: gamma to the number of milestones passed. t
            goes from 0 after the warm-up to 1.
        milestones: of multistep, shares of the steps.
        gamma: of multistep.
        decay: of wsd.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    if schedule == "multistep":
        return gamma ** sum(step >= round(share * steps) for share in milestones)
    if schedule == "wsd":
        falling = max(1, round(decay * steps))
        return min(1.0, (steps - step) / falling)
    if schedule == "linear":
        return 1 - (step - rising) / max(1, steps - rising)
    assert schedule == "cosine", schedule
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


class Rates:
    """Sets the rate of every parameter group before each step.

    Args:
        optimizer: its groups' rates, as found, are the base rates.
        steps: of the trial.
        warmup: share of the steps that rise.
        schedule: what follows.
        more: of `factor`.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int, warmup: float, schedule: str, **more: Any) -> None:
        self._optimizer = optimizer
        self._at = partial(factor, steps=steps, warmup=warmup, schedule=schedule, **more)
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

    def state_dict(self) -> dict[str, Any]:
        """What `set` remembers from one step to the next."""
        return {"base": list(self._base), "last": list(self._last), "factor": self._factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._base, self._last, self._factor = list(state["base"]), list(state["last"]), state["factor"]
