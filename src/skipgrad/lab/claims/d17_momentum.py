"""D17: momentum carries training over small ridges, out of shallow minima that plain gradient descent stays in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import lines
from skipgrad.lab.registry import CLAIMS

STARTS, STEPS, RATE = 400, 400, 0.05
RIPPLES = (0.0, 0.1, 0.2, 0.3)
MOMENTA = (0.0, 0.5, 0.9, 0.95)
MORE = 0.3


def share_arrived(momentum: float, ripple: float, seed: int) -> float:
    """Share of starts that end within half a ripple of the lowest point of x²/20 + ripple·(1 − cos 2πx)/2π.

    The rate falls with momentum so that a steady slope is descended at the same speed: rate·(1 − momentum).
    """
    with kept_random(torch.device("cpu")):
        seed_all(seed)
        x = (10 * torch.rand(STARTS, dtype=torch.float64) + 2).requires_grad_()
    optimizer = torch.optim.SGD([x], lr=RATE * 10 * (1 - momentum), momentum=momentum)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (x.square() / 20 + ripple * (1 - torch.cos(2 * math.pi * x)) / (2 * math.pi)).sum().backward()
        optimizer.step()
    return float((x.detach().abs() < 0.5).double().mean())


def one_seed(setting: Setting) -> Values:
    """Arrivals over ripples of growing height, at each momentum."""
    values: Values = {}
    for momentum in MOMENTA:
        for ripple in RIPPLES:
            values[f"arrived at momentum={momentum:g} ripple={ripple:g}"] = share_arrived(
                momentum, ripple, setting.seed
            )
    return values


def judge(values: Values) -> bool:
    """Without ripples all arrive; over ripples momentum brings more of them down, and none does without it."""
    smooth = all(values[f"arrived at momentum={m:g} ripple=0"] == 1 for m in MOMENTA)
    gains = [
        values[f"arrived at momentum=0.9 ripple={r:g}"] - values[f"arrived at momentum=0 ripple={r:g}"]
        for r in RIPPLES
        if r > 0
    ]
    return smooth and max(gains) >= MORE and min(gains) >= 0


def sentence(figures: Sequence[Figure]) -> str:
    """Arrivals."""

    def at(m: float, r: float) -> str:
        return number(100 * middle(figures, f"arrived at momentum={m:g} ripple={r:g}"))

    told = "; ".join(f"ripple {r:g}: {at(0.0, r)} % without, {at(0.9, r)} % with momentum .9" for r in RIPPLES[1:])
    return f"Of {STARTS} starts on a rippled bowl reach the bottom – {told}; without ripples all do."


CLAIM = Claim(
    id="D17",
    title="Momentum leaves shallow minima",
    statement="Gradient descent with momentum rolls over ridges that plain gradient descent stays behind, at the "
    "same speed "
    "down a steady slope.",
    anchor="Polyak 1964; Sutskever et al. 2013",
    criterion=f"on a bowl with ripples momentum .9 brings ≥ {MORE:g} more of the starts to the bottom at some "
    "height, never "
    "fewer; without ripples all arrive with and without",
    refutes="as many arrivals without momentum",
    setting=f"{STARTS} starts in [2, 12] on x²/20 + h(1 − cos 2πx)/2π, {STEPS} steps, rate × (1 − momentum)",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: lines(
        figures,
        [f"arrived at momentum={m:g} ripple=" for m in MOMENTA],
        "height of the ripples",
        "share of starts that reach the bottom",
    ),
    caution="Designed minima in one dimension: that deep nets get stuck in such minima is not shown by this.",
    topic="training",
    duration="3 s",
    not_on_model="its minima are designed",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=117)
