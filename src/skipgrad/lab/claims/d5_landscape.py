"""D5: the loss surface of a net with skips is smoother."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle, over
from skipgrad.lab.claims.d1_degradation import EPOCHS, QUICK_EPOCHS, WIDTH, recipe, workload_of
from skipgrad.lab.picture import contours
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import error, samples, trained
from skipgrad.models import Workload
from skipgrad.probes.landscape import Landscape, extreme_eigenvalues, filter_normalised, landscape
from skipgrad.probes.landscape.grid import at

NETS = {"resnet56": "with skips", "plain56": "without"}
IMAGES = 96
SLICE, PLANE, QUICK_PLANE, STEPS = (-0.5, -0.25, 0.0, 0.25, 0.5), 17, 7, 16
RATIO = 3.0


def one_seed(setting: Setting) -> Values:
    """On a filter-normalised plane the loss, and along a line in it the Hessian's most negative over its largest
    eigenvalue."""
    values: Values = {}
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    for net, name in NETS.items():
        setting.say(f"training {net}")
        workload = workload_of(net)
        model, _ = trained(workload, recipe(workload, setting.seed, epochs), setting)
        x, y = samples(workload, IMAGES)
        values[f"error {name} %"] = error(model, x, y)
        direction, other = (filter_normalised(model, far + setting.seed) for far in (1000, 2000))
        setting.say(f"a plane of the loss, {net}")
        axis = np.linspace(-1, 1, QUICK_PLANE if setting.quick else PLANE)
        found = landscape(model, lambda run, x=x, y=y: F.cross_entropy(run(x), y), direction, other, xs=axis, at_once=1)
        values |= on_plane(f"loss {name}", found)
        ratios = []
        for far in SLICE:
            setting.say(f"curvature of {net} at {far:g}")
            with at(model, ((far, direction),)):
                ends = extreme_eigenvalues(
                    model, lambda model=model, x=x, y=y: F.cross_entropy(model(x), y), steps=STEPS, tolerance=0.02
                )
            ratios.append(abs(min(ends.low, 0.0)) / max(ends.high, 1e-30))
            values[f"|λmin/λmax| {name} at={far:g}"] = ratios[-1]
        values[f"median |λmin/λmax| {name}"] = median(ratios)
    values["ratio of the medians"] = values["median |λmin/λmax| without"] / max(
        values["median |λmin/λmax| with skips"], 1e-12
    )
    return values


def on_plane(name: str, found: Landscape) -> Values:
    """The losses of a grid as figures, as `contours` reads them."""
    return {
        f"{name} over x={a:g} y={b:g}": float(v)
        for b, row in zip(found.ys, found.losses, strict=True)
        for a, v in zip(found.xs, row, strict=True)
    }


def judge(values: Values) -> bool:
    """Less convex without."""
    return values["ratio of the medians"] >= RATIO


def sentence(figures: Sequence[Figure]) -> str:
    """The medians."""
    at_ = {n: number(middle(figures, n)) for n in figures[0].values}
    ratios = [number(f(over(figures, "ratio of the medians"))) for f in (min, max)]
    return (
        "Along a slice through the trained nets |λmin/λmax| of the Hessian is "
        f"{at_['median |λmin/λmax| with skips']} with "
        f"skips and {at_['median |λmin/λmax| without']} without (medians; error {at_['error with skips %']} % and "
        f"{at_['error without %']} %), {ratios[0]} to {ratios[1]} times as much over the seeds."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """A user's net after a short training: its loss on a plane, and its curvature in the middle."""
    setting.say("training")
    model, _ = trained(workload, Recipe(60 if setting.quick else 300, workload.batch_size, seed=setting.seed), setting)
    batch = next(workload.batches(setting.seed + 1))
    first, second = (filter_normalised(model, far + setting.seed) for far in (1000, 2000))
    setting.say("a plane of the loss")
    found = landscape(
        model,
        lambda run: workload.loss(run(*batch.args, **batch.kwargs), batch),
        first,
        second,
        xs=np.linspace(-1, 1, QUICK_PLANE if setting.quick else PLANE),
        tell=lambda done, total: setting.say(f"a plane of the loss, row {done} of {total}"),
    )
    setting.say("curvature")

    def loss() -> torch.Tensor:
        return workload.loss(model(*batch.args, **batch.kwargs), batch)

    with kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        ends = extreme_eigenvalues(model, loss, steps=STEPS)
    return on_plane("loss", found) | {"λmin": ends.low, "λmax": ends.high, "residual": ends.residual}


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """The curvature."""
    return (
        f"At its weights the Hessian's eigenvalues go from {number(middle(figures, 'λmin'))} to "
        f"{number(middle(figures, 'λmax'))} (Lanczos, residual {number(middle(figures, 'residual'))})."
    )


CLAIM = Claim(
    id="D5",
    title="The loss surface is smoother",
    statement="Around a trained deep net with skips the loss is nearly convex; without them it is chaotic.",
    anchor="CIFAR-10, ResNet-56: 5.89 % with shortcuts, 13.31 % without; filter-normalised 51 × 51 grids (Li et "
    "al. 2018)",
    criterion=f"median over a slice of |λmin/λmax| of the Hessian: without skips ≥ {RATIO:g} × with",
    refutes="a slice without skips that is as convex",
    setting=f"56 layers of width {WIDTH} with batch norm on digits, {EPOCHS} epochs as in D1; Hessian on {IMAGES} "
    "images at "
    f"{len(SLICE)} points of a filter-normalised line, Lanczos, evaluation mode; the loss on a plane of "
    f"{PLANE} × {PLANE} points",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: contours(
        figures,
        [f"loss {name} over " for name in NETS.values()] + ["loss over "],
        "steps along one filter-normalised direction",
        "along another",
        "loss",
    ),
    effect="ratio of the medians",
    caution="The plain net does not train (D1), so the slices are around nets of very different error, here as in "
    "the paper.",
    topic="structure",
    duration="two minutes",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
    protocol=2,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=105)
