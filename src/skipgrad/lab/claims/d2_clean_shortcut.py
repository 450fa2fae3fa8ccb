"""D2: the shortcut must be clean: scaling it by λ multiplies the gradient through n skips by λⁿ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.instrument.threads import Threads
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle, over
from skipgrad.lab.picture import lines
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


def judge(values: Values) -> bool:
    """The products are right, and the loss rises each time λ falls."""
    losses = [values[f"train loss at λ={s:g}"] for s in SCALES]
    return values["error of λⁿ"] <= BOUND and all(a < b for a, b in pairwise(losses))


def one_seed(setting: Setting) -> Values:
    """The product of the shortcuts at each λ by the ledger, and a training run at each."""
    steps = QUICK_STEPS if setting.quick else STEPS
    errors, losses = {}, {}
    for scale in SCALES:
        setting.say(f"λ = {scale:g}")
        truth = scale**BLOCKS
        errors[scale] = abs(shortcut_product(scale, setting.seed) - truth) / truth
        losses[scale] = trained_loss(scale, setting.seed, steps, setting.threads)
    return values_of(errors, losses)


def values_of(errors: dict[float, float], losses: dict[float, float]) -> Values:
    """The figures of one seed."""
    last, first = losses[SCALES[-1]], losses[SCALES[0]]
    told = {f"train loss at λ={s:g}": v for s, v in losses.items()}
    return {"error of λⁿ": max(errors.values()), **told, "loss at λ=0.5 minus at λ=1": last - first}


def sentence(figures: Sequence[Figure]) -> str:
    """The error of the products, and the losses."""
    worst = max(over(figures, "error of λⁿ"))
    ends = ", ".join(f"{number(middle(figures, f'train loss at λ={s:g}'))} at {s:g}" for s in SCALES)
    return (
        f"The measured product of {BLOCKS} shortcuts is λⁿ to {number(worst)} (relative); training loss {ends} "
        f"(medians over {len(figures)} seeds)."
    )


CLAIM = Claim(
    id="D2",
    title="The shortcut must be clean",
    statement="Scaling every shortcut by λ multiplies the gradient that passes n of them by λⁿ, and training suffers.",
    anchor="ResNet-110 on CIFAR-10: identity 6.61 %, scaled by one half 12.35 %, 1×1 convolution 12.22 %, "
    "exclusive gate "
    "8.70 % (He et al. 2016)",
    criterion=f"measured shortcut product = λⁿ to {BOUND:g}, and the training loss rises at each step of λ = "
    f"{', '.join(f'{s:g}' for s in SCALES)}",
    refutes="a product that is not λⁿ, or a smaller λ that trains as well",
    setting=f"{BLOCKS} blocks of width {WIDTH} without norm; products in float64 at the start; training on digits, "
    f"{STEPS} steps of {BATCH}, Adam {RATE:g}",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: lines(figures, ["train loss at λ="], "λ, the factor of every shortcut", "training loss"),
    effect="loss at λ=0.5 minus at λ=1",
    caution="That gates on the shortcut hurt is contested: highway nets train, and results turn on how gates are "
    "started.",
    topic="gradient",
    duration="4 s",
    trains=True,
    not_on_model="it scales the shortcuts of a chain of its own: `skipgrad find` lists what is not clean on yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=102)
