"""D4: most of the gradient travels short paths, and training shortens them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.claims.d1_degradation import EPOCHS, QUICK_EPOCHS, WIDTH, recipe, workload_of
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import error, fresh, samples, trained
from skipgrad.models import Workload
from skipgrad.probes import path_spectrum

NET, IMAGES = "resnet56", 8
FITS = 5.0


def spectrum_of(model: nn.Module, workload: Workload, prefix: str) -> Values:
    """Mean length of the gradient's paths and what norms without signs would say, in float64 and evaluation mode."""
    model = model.double().eval()
    x, y = samples(workload, IMAGES)
    x = x.double()
    found = path_spectrum(model, find(model, x), (x,), lambda out: F.cross_entropy(out, y))
    lengths = found.lengths
    unsigned = sum(k * n for k, n in zip(lengths, found.norms, strict=True)) / sum(found.norms)
    return {
        f"mean length {prefix}": found.mean_length,
        f"mean length {prefix}, norms without signs": unsigned,
        f"residual {prefix}": found.residual,
        "branches": float(found.branches),
    }


def one_seed(setting: Setting) -> Values:
    """The exact spectrum before and after training."""
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    workload = workload_of(NET)
    setting.say("the spectrum at the start")
    values = spectrum_of(fresh(workload, setting.seed), workload, "at the start")
    setting.say(f"training {NET}")
    model, _ = trained(workload, recipe(workload, setting.seed, epochs), setting)
    x, y = samples(workload, 512)
    values["error %"] = error(model, x, y)
    setting.say("the spectrum after training")
    return values | spectrum_of(model, workload, "trained")


def judge(values: Values) -> bool | None:
    """Short at the start already, shorter after training; exact to rounding."""
    if values["error %"] > FITS:
        return None
    n, start, end = values["branches"], values["mean length at the start"], values["mean length trained"]
    exact = max(values["residual at the start"], values["residual trained"]) < 1e-8
    return exact and start < n / 2 and end < n / 4


def sentence(figures: Sequence[Figure]) -> str:
    """The lengths."""
    n = int(figures[0].values["branches"])
    return (
        f"Of {n} branches the gradient's mean path crosses {number(middle(figures, 'mean length at the start'))} "
        "at the "
        f"start and {number(middle(figures, 'mean length trained'))} after training (half of all would be "
        f"{n / 2:g}); norms "
        f"summed without their signs say {number(middle(figures, 'mean length trained, norms without signs'))}."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """The exact spectrum of a user's net at its start and after a short training."""
    batch = next(workload.batches(setting.seed))

    def measured(model: nn.Module, prefix: str) -> Values:
        graph = find(model, *batch.args, **batch.kwargs)
        inputs = batch.kwargs or batch.args
        found = path_spectrum(model, graph, inputs, lambda out: workload.loss(out, batch))
        return {f"mean length {prefix}": found.mean_length, "branches": float(found.branches)}

    values = measured(fresh(workload, setting.seed), "at the start")
    setting.say("training")
    steps = 60 if setting.quick else 300
    model, _ = trained(workload, Recipe(steps, workload.batch_size, seed=setting.seed), setting)
    return values | measured(model, "trained")


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """The lengths."""
    n = int(figures[0].values["branches"])
    return (
        f"Of {n} branches the gradient's mean path crosses {number(middle(figures, 'mean length at the start'))} "
        "at the "
        f"start and {number(middle(figures, 'mean length trained'))} after training."
    )


CLAIM = Claim(
    id="D4",
    title="The gradient travels short paths",
    statement="Of a net's 2ⁿ paths through or past n branches the gradient takes short ones, and training shortens "
    "them.",
    anchor="ResNet-110, CIFAR-10: nearly all gradient from paths of 5 to 17 of 54 blocks, .45 % of all paths (Veit "
    "et al. "
    "2016, from sampled paths)",
    criterion="exact signed mean path length < n/2 at the start and < n/4 after training, the spectrum summing to "
    "autograd's gradient within 1e-8",
    refutes="a mean length of half of all branches or more",
    setting=f"{NET} of width {WIDTH} on digits, {EPOCHS} epochs as in D1; {IMAGES} images, float64, evaluation mode",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        ["mean length at the start", "mean length trained", "mean length trained, norms without signs"],
        "mean number of branches on a path",
    ),
    effect="mean length trained",
    caution="Norms of single paths, summed without their signs (as sampling does), overstate long paths: those cancel.",
    topic="gradient",
    duration="half a minute",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=104)
