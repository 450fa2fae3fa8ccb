"""D2: the shortcut must be clean: scaling it by λ multiplies the gradient through n skips by λⁿ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.instrument.threads import Threads
from skipgrad.lab.claim import Claim, Figure, Outcome, Progress, Tell
from skipgrad.lab.registry import CLAIMS
from skipgrad.ledger import watch
from skipgrad.models import fit
from skipgrad.race import final_loss
from skipgrad.train import settle, train_trial

SCALES = (1.0, 0.9, 0.7, 0.5)
BLOCKS, WIDTH, STEPS, QUICK_STEPS, BATCH, RATE = 16, 32, 150, 60, 64, 1e-3
BOUND = 1e-6


class Scaled(nn.Module):
    """λ·x + F(x), F of two linear layers with a ReLU between."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.first, self.second, self.scale = nn.Linear(width, width), nn.Linear(width, width), scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.second(F.relu(self.first(x)))


class Chain(nn.Module):
    """n blocks of `Scaled` between two linear layers, on flattened 8×8 images; no norm."""

    def __init__(self, scale: float = 1.0, blocks: int = BLOCKS, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.Sequential(*[Scaled(width, scale) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x.flatten(1))))


def shortcut_product(scale: float, seed: int, blocks: int = BLOCKS) -> float:
    """Product over all skips of ‖S‖ / ‖dL/dy‖ as the ledger measures them in float64, in the net at its start."""
    with kept_random(torch.device("cpu")):
        seed_all(seed)
        model = Chain(scale, blocks).double()
        x, y = torch.randn(16, 1, 8, 8, dtype=torch.float64), torch.randint(10, (16,))
    graph = find(model, x)
    with watch(model, graph, budget=None) as ledger:
        F.cross_entropy(model(x), y).backward()
    rows = ledger.rows()
    assert len(rows) == blocks, f"{len(rows)} skips measured, {blocks} built"
    return math.prod(row.skip_norm / row.out_norm for row in rows)


def trained_loss(scale: float, seed: int, steps: int, threads: Threads | None = None) -> float:
    """Training loss at the end, on the digits; infinite when it diverged."""
    workload = fit(f"{__name__}:Chain", {"scale": scale}, "digits", batch_size=BATCH)
    settings = Recipe(steps, BATCH, "adam", RATE, seed)
    settle(workload, settings, threads)
    return final_loss(train_trial(workload, settings, threads=threads))


def judge(seed: int, errors: dict[float, float], losses: dict[float, float]) -> Figure:
    """The criterion on one seed: the products are right, and the loss rises each time λ falls."""
    falling = [losses[s] for s in sorted(losses, reverse=True)]
    rises = all(a < b for a, b in pairwise(falling))
    values = {f"train loss at λ={s:g}": v for s, v in losses.items()}
    return Figure(seed, max(errors.values()) <= BOUND and rises, {"error of λⁿ": max(errors.values()), **values})


def experiment(quick: bool, seeds: Sequence[int], tell: Tell, threads: Threads | None = None) -> Outcome:
    """The product of the shortcuts at each λ by the ledger, and a training run at each."""
    steps = QUICK_STEPS if quick else STEPS
    figures, done, total = [], 0, len(SCALES) * len(seeds)
    for seed in seeds:
        errors, losses = {}, {}
        for scale in SCALES:
            tell(Progress("D2", done, total, f"λ = {scale:g}, seed {seed}"))
            truth = scale**BLOCKS
            errors[scale] = abs(shortcut_product(scale, seed) - truth) / truth
            losses[scale] = trained_loss(scale, seed, steps, threads)
            done += 1
        figures.append(judge(seed, errors, losses))
    tell(Progress("D2", total, total, "done"))
    worst = max(f.values["error of λⁿ"] for f in figures)
    ends = ", ".join(f"{number(median(f.values[f'train loss at λ={s:g}'] for f in figures))} at {s:g}" for s in SCALES)
    return Outcome(
        tuple(figures),
        f"The measured product of {BLOCKS} shortcuts is λⁿ to {number(worst)} (relative); training loss {ends} "
        f"(medians over {len(seeds)} seeds).",
        f"{BLOCKS} blocks of width {WIDTH} without norm; products in float64 at the start; training on digits, "
        f"{steps} steps of {BATCH}, Adam {RATE:g}",
    )


CLAIM = Claim(
    "D2",
    "The shortcut must be clean",
    "Scaling every shortcut by λ multiplies the gradient that passes n of them by λⁿ, and training suffers.",
    "ResNet-110 on CIFAR-10: identity 6.61 %, scaled by one half 12.35 %, 1×1 convolution 12.22 %, exclusive gate "
    "8.70 % (He et al. 2016; the gating results are contested)",
    f"measured shortcut product = λⁿ to {BOUND:g}, and the training loss rises at each step of λ = "
    f"{', '.join(f'{s:g}' for s in SCALES)}, on every seed",
    experiment,
    duration="about ten seconds",
    trains=True,
)
CLAIMS.register(CLAIM.id, CLAIM)
