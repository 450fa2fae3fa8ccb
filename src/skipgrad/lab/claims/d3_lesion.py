"""D3: dropping or exchanging single blocks hurts little with skips, and kills a net without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.claims.d1_degradation import BATCH, EPOCHS, QUICK_EPOCHS, WIDTH, recipe, workload_of
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import error, samples, trained
from skipgrad.models import Workload
from skipgrad.probes.lesion import lesions, swapped
from skipgrad.probes.lesion.lesion import error_percent

LITTLE, MUCH, FITS = 2.0, 60.0, 5.0
IMAGES = 512


def blocks_of_one_shape(model: nn.Module) -> list[str]:
    """Paths of the blocks that leave the shape as it is: all but the first of stages two and three."""
    paths = [f"stage{s}.{i}" for s in (1, 2, 3) for i in range(len(model.get_submodule(f"stage{s}")))]  # type: ignore[arg-type]
    return [p for p in paths if p not in ("stage2.0", "stage3.0")]


@contextmanager
def bypassed(model: nn.Module, path: str) -> Iterator[None]:
    """Inside the block, a module passes on what it is given: the lesion of a net without skips."""
    home, _, name = path.rpartition(".")
    owner = model.get_submodule(home)
    kept = owner._modules[name]
    owner._modules[name] = nn.Identity()
    try:
        yield
    finally:
        owner._modules[name] = kept


def one_seed(setting: Setting) -> Values:
    """A residual and a plain net, each without each of its blocks, and the residual one with neighbours exchanged."""
    values: Values = {}
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    for net in ("resnet56", "plain20"):
        setting.say(f"training {net}")
        workload = workload_of(net)
        model, _ = trained(workload, recipe(workload, setting.seed, epochs), setting)
        x, y = samples(workload, IMAGES)
        base = error(model, x, y)
        paths = blocks_of_one_shape(model)
        setting.say(f"dropping blocks of {net}")
        if net == "resnet56":
            found = lesions(model, find(model, x[:2]), (x,), error_percent(y), only=paths)
            rises = [e - base for e in found.by_skip.values()]
            values["forwards a lesion"] = found.forwards / len(found.by_skip)
            pairs = [(a, b) for a, b in pairwise(paths) if a[:6] == b[:6]]
            exchanged = []
            for a, b in pairs:
                with swapped(model, a, b):
                    exchanged.append(error(model, x, y) - base)
            values["resnet56 rise by exchanging neighbours, points"] = median(exchanged)
        else:
            rises = []
            for path in paths:
                with bypassed(model, path):
                    rises.append(error(model, x, y) - base)
        values[f"{net} error %"] = base
        values[f"{net} rise by dropping a block, points"] = median(rises)
        values[f"{net} largest rise, points"] = max(rises)
    return values


def judge(values: Values) -> bool | None:
    """Little against much; it cannot tell when a net did not train."""
    if max(values["resnet56 error %"], values["plain20 error %"]) > FITS:
        return None
    little = values["resnet56 rise by dropping a block, points"] <= LITTLE
    return little and values["plain20 rise by dropping a block, points"] >= MUCH


def sentence(figures: Sequence[Figure]) -> str:
    """The rises."""
    return (
        f"Dropping one block raises the error of ResNet-56 by "
        f"{number(middle(figures, 'resnet56 rise by dropping a block, points'))} points and that of a plain net of 20 "
        f"layers by {number(middle(figures, 'plain20 rise by dropping a block, points'))}; exchanging neighbours "
        "raises "
        f"it by {number(middle(figures, 'resnet56 rise by exchanging neighbours, points'))} (medians over blocks and "
        f"{len(figures)} seeds)."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """Each add skip of a user's net dropped by itself, after a short training (its weights are drawn anew)."""
    setting.say("training")
    steps = 60 if setting.quick else 300
    model, _ = trained(workload, Recipe(steps, workload.batch_size, seed=setting.seed), setting)
    batch = next(workload.batches(setting.seed + 1))
    with torch.no_grad():
        graph = find(model, *batch.args, **batch.kwargs)
    setting.say("dropping branches")

    def score(out: Any) -> float:
        return float(workload.loss(out, batch))

    found = lesions(model, graph, batch.args, score)
    rises = {name: loss - found.base for name, loss in found.by_skip.items()}
    told = {f"rise of the loss without {name}": rise for name, rise in rises.items()}
    return {"loss": found.base, "median rise of the loss": median(rises.values()), **told}


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """Which branches matter most, and least."""
    names = [n for n in figures[0].values if n.startswith("rise of the loss without ")]
    ranked = sorted(names, key=lambda n: middle(figures, n))
    least, most = ranked[0], ranked[-1]
    return (
        f"Without one branch the loss ({number(middle(figures, 'loss'))}) rises by "
        f"{number(middle(figures, 'median rise of the loss'))} (median of {len(names)}); least without "
        f"{least.rpartition(' ')[2]} ({number(middle(figures, least))}), most without {most.rpartition(' ')[2]} "
        f"({number(middle(figures, most))})."
    )


CLAIM = Claim(
    id="D3",
    title="Dropping a block hurts little",
    statement="A trained net with skips loses little when single blocks are dropped or exchanged; one without breaks.",
    anchor="ResNet-110, CIFAR-10: dropping one of 54 blocks leaves the error about as it was, VGG falls to chance "
    "(Veit et "
    "al. 2016)",
    criterion=f"dropping one block that keeps the shape: median rise of the error ≤ {LITTLE:g} points in ResNet-56 "
    "and ≥ "
    f"{MUCH:g} in a plain net of 20 layers",
    refutes="a residual net that breaks without a single block, or a plain one that does not",
    setting=f"digits, width {WIDTH}, batch norm, {EPOCHS} epochs of {BATCH} as in D1; error on {IMAGES} of the "
    "training "
    "images",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        [
            "resnet56 rise by dropping a block, points",
            "resnet56 rise by exchanging neighbours, points",
            "plain20 rise by dropping a block, points",
        ],
        "rise of the error, points",
    ),
    effect="plain20 rise by dropping a block, points",
    caution="That a residual net is an ensemble follows from this for dropping single blocks, not for the net as "
    "trained.",
    topic="structure",
    duration="half a minute",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=103)
