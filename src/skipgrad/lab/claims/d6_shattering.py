"""D6: without skips, gradients of deep nets shatter into noise; with small branches and batch norm they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor

from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS

DEPTH, WIDTH, POINTS, DRAWS, QUICK_DRAWS = 50, 200, 256, 20, 10
NETS = {"plain": None, "residual, batch norm, β=0.1": 0.1, "residual, batch norm, β=1": 1.0}
ERRORS = 3.0


def input_gradient(beta: float | None, depth: int = DEPTH) -> Tensor:
    """df/dx over a grid on the line, of a net as drawn: plain for None, else y = x + β·W relu(norm(x))."""
    x = torch.linspace(-2, 2, POINTS)[:, None].requires_grad_()
    h = x @ torch.randn(1, WIDTH) + torch.randn(WIDTH)
    for _ in range(depth):
        weight = torch.randn(WIDTH, WIDTH) * math.sqrt(2 / WIDTH)
        if beta is None:
            h = F.relu(h) @ weight
        else:
            z = (h - h.mean(0).detach()) / (h.std(0).detach() + 1e-5)
            h = h + beta * (F.relu(z) @ weight)
    out = h @ torch.randn(WIDTH, 1) / math.sqrt(WIDTH)
    return torch.autograd.grad(out.sum(), x)[0][:, 0]


def autocorrelation(g: Tensor, lag: int = 1) -> float:
    """How alike the gradient is at neighbouring points: 1 for a line, 0 for white noise."""
    g = g - g.mean()
    return float((g[:-lag] * g[lag:]).mean() / (g * g).mean())


def one_seed(setting: Setting) -> Values:
    """The autocorrelation at lag 1 over several draws of each net."""
    values: Values = {}
    draws = QUICK_DRAWS if setting.quick else DRAWS
    with kept_random(torch.device("cpu")):
        for name, beta in NETS.items():
            setting.say(name)
            seed_all(setting.seed)
            found = [autocorrelation(input_gradient(beta)) for _ in range(draws)]
            values[f"autocorrelation, {name}"] = mean(found)
            values[f"standard error, {name}"] = stdev(found) / draws**0.5
    good = "residual, batch norm, β=0.1"
    spread = math.hypot(values["standard error, plain"], values[f"standard error, {good}"])
    values["difference in standard errors"] = (
        values[f"autocorrelation, {good}"] - values["autocorrelation, plain"]
    ) / spread
    return values


def judge(values: Values) -> bool:
    """Clear of the spread."""
    return values["difference in standard errors"] >= ERRORS


def sentence(figures: Sequence[Figure]) -> str:
    """The three nets."""
    at = {name: number(middle(figures, f"autocorrelation, {name}")) for name in NETS}
    return (
        f"At {DEPTH} layers, gradients at neighbouring inputs correlate by {at['plain']} in a plain net and by "
        f"{at['residual, batch norm, β=0.1']} in a residual one whose branches are scaled by .1; unscaled (β = 1) by "
        f"{at['residual, batch norm, β=1']}, no better than plain."
    )


CLAIM = Claim(
    id="D6",
    title="Gradients shatter without skips",
    statement="The deeper a plain net, the more its gradient with respect to the input looks like white noise; "
    "skips with "
    "scaled branches and batch norm keep its structure.",
    anchor="correlation falls as ½ᴸ in plain nets and as 1/√L in residual ones with batch norm (Balduzzi et al. 2017)",
    criterion=f"lag-1 autocorrelation of df/dx at {DEPTH} layers: residual (β = .1) with batch norm above plain by ≥ "
    f"{ERRORS:g} standard errors",
    refutes="a plain net whose gradient is as smooth",
    setting=f"fully connected nets of width {WIDTH} as drawn, {POINTS} points on a line, {DRAWS} draws a seed",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(figures, [f"autocorrelation, {n}" for n in NETS], "lag-1 autocorrelation of df/dx"),
    effect="difference in standard errors",
    caution="The claim needs scaled branches: with β = 1 it fails, as measured here.",
    topic="gradient",
    duration="5 s",
    not_on_model="it needs a net of one input number",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=106)
