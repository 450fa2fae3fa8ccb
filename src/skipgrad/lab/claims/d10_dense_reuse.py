"""D10: dense concatenation reuses features: layers draw on early ones, and few weights go far."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import lines
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import Own, digits, error, samples, trained
from skipgrad.ledger import watch
from skipgrad.models import resolve_model

DENSE, RESIDUAL = "skipgrad:densenet40", "skipgrad:resnet20"
GROWTH, BATCH, EPOCHS, QUICK_EPOCHS, RATE, TEST = 4, 64, 25, 8, 0.05, 450
OLD, USED, SLACK, LEARNED = 4, 0.1, 0.5, 10.0


def make(ref: str, **args: int) -> nn.Module:
    """A net of the family, as it is drawn."""
    return resolve_model(ref, args).build()


def weights(model: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in model.parameters())


def width_like(count: int) -> int:
    """The width at which the residual net has about as many weights."""
    return min(range(2, 24), key=lambda w: abs(weights(make(RESIDUAL, width=w)) - count))


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits to train on and to test on, by a fixed permutation."""
    x, y = samples(digits(DENSE, {}), 1797)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[TEST:], y[TEST:], x[:TEST], y[:TEST]


def shares_by_age(model: nn.Module, x: Tensor, y: Tensor) -> tuple[dict[int, float], float]:
    """The mean share of a layer's gradient that goes to each source, by how many layers ago that was made; and what
    goes to all sources older than four layers, the mean over layers that have such.
    """
    graph = find(model, x[:2])
    model.train()
    with watch(model, graph, budget=None, sources=True) as ledger:
        F.cross_entropy(model(x), y).backward()
    model.zero_grad()
    model.eval()
    by_skip: dict[str, list[tuple[int, float]]] = {}
    for row in ledger.sources():
        by_skip.setdefault(row.skip, []).append((row.number, row.share))
    ages: dict[int, list[float]] = {}
    old: list[float] = []
    for rows in by_skip.values():
        newest = max(n for n, _ in rows)
        for n, share in rows:
            ages.setdefault(newest - n + 1, []).append(share)
        if newest + 1 > OLD:
            old.append(sum(share for n, share in rows if newest - n + 1 > OLD))
    return {age: mean(s) for age, s in sorted(ages.items())}, mean(old)


def one_seed(setting: Setting) -> Values:
    """Both nets trained alike at equal numbers of weights, and where the dense net's gradient goes."""
    x, y, test_x, test_y = data()
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    steps = epochs * (len(x) // BATCH)
    width = width_like(weights(make(DENSE, growth=GROWTH)))
    values: Values = {}
    for name, ref, args in (("DenseNet", DENSE, {"growth": GROWTH}), ("ResNet", RESIDUAL, {"width": width})):
        setting.say(f"training the {name}")
        own = Own(lambda ref=ref, args=args: make(ref, **args), x, y, F.cross_entropy, BATCH, name)
        recipe = Recipe(steps, BATCH, "sgd", RATE, setting.seed, warmup=1 / epochs, schedule="cosine")
        model, _ = trained(own, recipe, setting)
        values[f"{name}: test error %"] = error(model, test_x, test_y)
        values[f"{name}: weights"] = float(weights(model))
        if name == "DenseNet":
            shares, old = shares_by_age(model, x[:256], y[:256])
            values |= {f"share at age={age}": share for age, share in shares.items()}
            values["share of sources older than four layers"] = old
    values["DenseNet minus ResNet, points"] = values["DenseNet: test error %"] - values["ResNet: test error %"]
    return values


def judge(values: Values) -> bool | None:
    """Old features are used, and the error is no worse; it cannot tell when neither has learned."""
    if min(values["DenseNet: test error %"], values["ResNet: test error %"]) > LEARNED:
        return None
    return (
        values["share of sources older than four layers"] >= USED and values["DenseNet minus ResNet, points"] <= SLACK
    )


def sentence(figures: Sequence[Figure]) -> str:
    """The share of old sources and the errors."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    return (
        f"Sources older than {OLD} layers get a share of {at['share of sources older than four layers']} of a layer's "
        f"gradient; test error {at['DenseNet: test error %']} % with "
        f"{at['DenseNet: weights']} weights against {at['ResNet: test error %']} % of a ResNet with "
        f"{at['ResNet: weights']}."
    )


CLAIM = Claim(
    id="D10",
    title="Dense concatenation reuses features",
    statement="In a DenseNet late layers read early ones' features directly, so that few weights go far.",
    anchor="CIFAR-10: DenseNet-BC-100 4.51 % at .8 M weights, ResNet-110 6.43 % at 1.7 M; DenseNet-BC-250 3.62 % "
    "(Huang et "
    "al. 2017)",
    criterion=f"sources older than {OLD} layers get ≥ {USED:g} of a layer's gradient, and the test error is ≤ a "
    "ResNet's of "
    f"as many weights + {SLACK:g} points",
    refutes="layers that read only their neighbours, or a ResNet of that size that errs less",
    setting=f"DenseNet-40 of growth {GROWTH} and ResNet-20 of the width that gives as many weights, digits ({TEST} "
    "to test), "
    f"{EPOCHS} epochs of {BATCH}, SGD {RATE:g}; gradients by the ledger's sources",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: lines(
        figures, ["share at age="], "layers ago that the source was made", "mean share of a layer's gradient"
    ),
    effect="DenseNet minus ResNet, points",
    topic="structure",
    duration="half a minute",
    trains=True,
    not_on_model="it compares with a ResNet of equal size: `sg.watch(…, sources=True)` gives the shares of yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=110)
