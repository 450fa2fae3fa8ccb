"""C3: the long skips of a U-Net scaled down steady its gradient and speed its training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import Workload, fit
from skipgrad.race import final_loss, first_at, noise, score, smoothed
from skipgrad.remedies import remedy
from skipgrad.train import settle, train_trial
from skipgrad.train.results import TrialResult

BATCH, STEPS, QUICK_STEPS, RATES, KAPPA = 64, 160, 60, (1e-2, 3e-3), 0.7
PLAIN, SCALED = "unscaled", f"κ = {KAPPA:g}"
ARMS: Mapping[str, Mapping[str, Any] | None] = {
    PLAIN: None,
    SCALED: {"kappa": KAPPA},
    "1/√2": {"factor": 2**-0.5},
    "learned": {"learned": True},
}
NETS = {
    "U-Net": ("skipgrad:unet", {"in_channels": 2, "num_classes": 1}),
    "UNet2DModel": (
        "diffusers:UNet2DModel",
        {
            "sample_size": 8,
            "block_out_channels": [8, 16, 16],
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "down_block_types": ["DownBlock2D"] * 3,
            "up_block_types": ["UpBlock2D"] * 3,
        },
    ),
}
AT = 0.75  # of the steps: where the unscaled net's loss is the target
STEADIER, FASTER, LEARNED = 0.9, 1 / 1.2, 0.6


class Norms:
    """The norm of the whole gradient at every step of an optimizer."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    @contextmanager
    def observe(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Norms]:
        """For `train_trial`."""

        def look(*_: Any) -> None:
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            self.seen.append(float(torch.nn.utils.get_total_norm(grads)))

        handle = optimizer.register_step_pre_hook(look)
        try:
            yield self
        finally:
            handle.remove()

    @property
    def spread(self) -> float:
        """Standard deviation of its logarithm about the trend, without the first quarter of the steps."""
        logs = [math.log(v) for v in self.seen[len(self.seen) // 4 :] if 0 < v < math.inf]
        return noise(logs)


def trial(
    workload: Workload, recipe: Recipe, scaling: Mapping[str, Any] | None, setting: Setting
) -> tuple[TrialResult, Norms]:
    """A training with the long skips scaled, and its gradient's norms."""
    norms = Norms()

    def prepare(model: nn.Module) -> Any:
        if scaling is None:
            return None
        example = workload.example
        return remedy("scalelong", **scaling).treat(model, find(model, *example.args, **example.kwargs))

    settle(workload, recipe, setting.threads)
    result = train_trial(workload, recipe, prepare=prepare, observe=norms.observe, threads=setting.threads)
    return result, norms


def one_seed(setting: Setting) -> Values:
    """Each net with each scaling at each rate; what is compared is every scaling's own best rate."""
    values: Values = {}
    steps = QUICK_STEPS if setting.quick else STEPS
    for net, (reference, args) in NETS.items():
        workload = fit(reference, dict(args), "denoise:digits", batch_size=BATCH)
        base = Recipe(steps, BATCH, "adam", seed=setting.seed)
        best: dict[str, TrialResult] = {}
        spreads: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for arm, scaling in ARMS.items():
            for rate in RATES[:1] if setting.quick else RATES:
                setting.say(f"{net}, {arm}, rate {rate:g}")
                result, norms = trial(workload, replace(base, lr=rate), scaling, setting)
                spreads[arm].append(norms.spread)
                if arm not in best or score(result) < score(best[arm]):
                    best[arm] = result
                    values[f"{net}, {arm}: rate"] = rate
        values |= compared(net, best, spreads, steps)
    return values


def compared(net: str, best: Mapping[str, TrialResult], spreads: Mapping[str, list[float]], steps: int) -> Values:
    """Loss, steps to the unscaled net's at three quarters of its steps, and the gradient's spread at equal rates."""
    target = min(smoothed(best[PLAIN])[: int(AT * steps)], default=math.inf)
    values: Values = {}
    for arm, result in best.items():
        reached = first_at(result, target)
        values[f"{net}, {arm}: loss at the end"] = final_loss(result)
        values[f"{net}, {arm}: steps to the target"] = math.inf if reached is None else reached + 1.0
        # A run that broke off at once has no spread: nothing is steady about it.
        pairs = zip(spreads[arm], spreads[PLAIN], strict=True)
        ratios = [mine / plain if mine > 0 and plain > 0 else math.inf for mine, plain in pairs]
        values[f"{net}, {arm}: gradient's spread"] = math.fsum(spreads[arm]) / len(spreads[arm])
        values[f"{net}, {arm}: spread, ratio"] = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
        values[f"{net}, {arm}: steps, ratio"] = (
            values[f"{net}, {arm}: steps to the target"] / values[f"{net}, {PLAIN}: steps to the target"]
        )
    return values


def judge(values: Values) -> bool | None:
    """Steadier and faster on both nets; it cannot tell where an unscaled net has not learned."""
    if any(values[f"{net}, {PLAIN}: loss at the end"] > LEARNED for net in NETS):
        return None
    return all(
        values[f"{net}, {SCALED}: spread, ratio"] <= STEADIER and values[f"{net}, {SCALED}: steps, ratio"] <= FASTER
        for net in NETS
    )


def sentence(figures: Sequence[Figure]) -> str:
    """Both ratios of every scaling on both nets."""
    told = [
        f"{arm}: {number(middle(figures, f'{net}, {arm}: spread, ratio'))} × the spread of the gradient's norm, "
        f"{number(middle(figures, f'{net}, {arm}: steps, ratio'))} × the steps to the unscaled net's loss"
        for net in NETS
        for arm in ARMS
        if arm != PLAIN
    ]
    half = len(told) // 2
    return (
        ". ".join(f"{net} – {'; '.join(told[k * half : (k + 1) * half])}" for k, net in enumerate(NETS))
        + " (medians over the seeds)."
    )


CLAIM = Claim(
    id="C3",
    title="Scaled long skips train a diffusion U-Net faster",
    statement="Multiplying the long skips of a U-Net by κ^(i−1) steadies its gradient and speeds its training.",
    anchor="about 1.5 × faster on CIFAR-10, CelebA and ImageNet, κ between .5 and .95; 1/√2 in earlier diffusion nets "
    "(Huang et al. 2023, arXiv:2310.13545)",
    criterion=f"κ = {KAPPA:g} on both nets: spread of the gradient's norm ≤ {STEADIER:g} × that of the unscaled net at "
    f"the same rates, and steps to its loss at {AT:.0%} of the steps ≤ {number(FASTER)} × its own",
    refutes="a gradient as unsteady, or as many steps",
    setting=f"finding the noise in 8×8 digits: the project's U-Net of three levels (batch norm), and diffusers' "
    f"UNet2DModel of three (group norm); {STEPS} steps of {BATCH}, Adam, each scaling at the better of {RATES}, by the "
    "remedy `scalelong`",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        [f"{net}, {arm}: steps, ratio" for net in NETS for arm in ARMS if arm != PLAIN],
        "steps to the unscaled net's loss, as a ratio",
        bound=FASTER,
    ),
    effect=f"U-Net, {SCALED}: steps, ratio",
    caution="Both nets are small and have norms; the paper's theorem is about the size of hidden features in deep "
    "ones.",
    topic="training",
    duration="two minutes",
    trains=True,
    not_on_model="`skipgrad boost MODEL --try scalelong` races it on yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=50)
