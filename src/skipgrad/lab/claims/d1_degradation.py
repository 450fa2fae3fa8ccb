"""D1: deeper plain nets train worse, residual ones do not. It is the *training* error that rises: no overfitting."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.instrument.threads import Threads
from skipgrad.lab.claim import Claim, Figure, Outcome, Progress, Tell
from skipgrad.lab.registry import CLAIMS
from skipgrad.models import Workload, fit
from skipgrad.train import settle, train_trial

EPOCHS, QUICK_EPOCHS, BATCH, RATE, WIDTH = 15, 5, 64, 0.1, 8
GAP, RESIDUAL_BELOW, SHALLOW_BELOW = 20.0, 1.0, 5.0
NETS = ("plain20", "plain56", "resnet20", "resnet56")


def workload_of(net: str) -> Workload:
    """A built-in net with batch norm on the digits."""
    return fit(f"skipgrad:{net}", {"norm": "batch", "width": WIDTH}, "digits", batch_size=BATCH)


def training_error(model: nn.Module, workload: Workload) -> float:
    """Share of all training examples the model gets wrong, in percent; with the running statistics of its norms."""
    assert workload.data.size is not None
    batch = workload.prepare(*workload.data.gather(range(workload.data.size)))
    was = model.training
    model.eval()
    with torch.no_grad():
        wrong = (model(*batch.args, **batch.kwargs).argmax(1) != batch.target).float().mean()
    model.train(was)
    return 100 * float(wrong)


def trained_error(net: str, seed: int, epochs: int, threads: Threads | None = None) -> float:
    """The training error of one net after training; 90 %, which is chance, when it diverged."""
    workload = workload_of(net)
    assert workload.data.size is not None
    steps = epochs * (workload.data.size // BATCH)
    settings = Recipe(
        steps=steps, batch_size=BATCH, lr=RATE, seed=seed, warmup=1 / epochs, schedule="cosine", optimizer="sgd"
    )
    kept: list[nn.Module] = []
    settle(workload, settings, threads)
    result = train_trial(workload, settings, prepare=kept.append, threads=threads)
    return 90.0 if result.diverged else training_error(kept[0], workload)


def judge(seed: int, errors: dict[str, float]) -> Figure:
    """The criterion on one seed; it cannot tell when the shallow plain net did not train either."""
    gap = errors["plain56"] - errors["plain20"]
    holds: bool | None = gap >= GAP and errors["resnet56"] <= RESIDUAL_BELOW
    if not holds and errors["plain20"] > SHALLOW_BELOW:
        holds = None
    return Figure(seed, holds, {**{f"{net} train error %": e for net, e in errors.items()}, "gap in points": gap})


def experiment(quick: bool, seeds: Sequence[int], tell: Tell, threads: Threads | None = None) -> Outcome:
    """Four nets a seed, trained alike."""
    epochs = QUICK_EPOCHS if quick else EPOCHS
    figures, done, total = [], 0, len(NETS) * len(seeds)
    for seed in seeds:
        errors = {}
        for net in NETS:
            tell(Progress("D1", done, total, f"{net}, seed {seed}"))
            errors[net] = trained_error(net, seed, epochs, threads)
            done += 1
        figures.append(judge(seed, errors))
    tell(Progress("D1", total, total, "done"))
    middle = {net: median(f.values[f"{net} train error %"] for f in figures) for net in NETS}
    worst = min(f.values["gap in points"] for f in figures)
    return Outcome(
        tuple(figures),
        f"Training error of plain nets rises from {number(middle['plain20'])} % (20 layers) to "
        f"{number(middle['plain56'])} % (56 layers), of residual ones it goes from {number(middle['resnet20'])} % to "
        f"{number(middle['resnet56'])} % (medians over {len(seeds)} seeds; smallest rise {number(worst)} points).",
        f"digits, width {WIDTH}, batch norm, {epochs} epochs of {BATCH}, SGD with momentum, rate {RATE} with one epoch "
        f"of warm-up and cosine decay",
    )


CLAIM = Claim(
    "D1",
    "Deeper plain nets train worse",
    "Adding layers to a plain net raises its training error; with skip connections it does not.",
    "CIFAR-10 error of ResNet-20/32/44/56/110/1202: 8.75/7.51/7.17/6.97/6.43/7.93 %; ImageNet plain-18/34: "
    "27.94/28.54 %, ResNet: 27.88/25.03 % (He et al. 2015)",
    f"training error of plain56 − plain20 ≥ {GAP:g} points and of ResNet-56 ≤ {RESIDUAL_BELOW:g} %, on every seed",
    experiment,
    duration="about three minutes",
    trains=True,
)
CLAIMS.register(CLAIM.id, CLAIM)
