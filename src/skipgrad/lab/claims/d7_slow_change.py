"""D7: from block to block a residual net changes its representation slowly."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.claims.d1_degradation import EPOCHS, QUICK_EPOCHS, WIDTH, recipe, workload_of
from skipgrad.lab.claims.d3_lesion import blocks_of_one_shape
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.trained import error, fresh, samples, trained
from skipgrad.models import Workload
from skipgrad.probes import Drift
from skipgrad.train import train_trial

NETS, IMAGES, FITS = ("resnet56", "plain20"), 512, 5.0
SLOW, FAST = 0.95, 0.5


def cka(a: Tensor, b: Tensor) -> float:
    """Linear centred kernel alignment of two representations, samples in rows (Kornblith et al. 2019)."""
    a, b = a.double() - a.double().mean(0), b.double() - b.double().mean(0)
    return float((a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm()))


def neighbours(model: nn.Module, x: Tensor) -> tuple[float, float]:
    """Mean cosine and mean CKA between what a block takes in and gives back, over blocks that keep the shape."""
    cosines, alike = [], []

    def look(_module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        a, b = args[0].flatten(1), out.flatten(1)
        cosines.append(float(F.cosine_similarity(a, b).mean()))
        alike.append(cka(a, b))

    handles = [model.get_submodule(p).register_forward_hook(look) for p in blocks_of_one_shape(model)]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return mean(cosines), mean(alike)


def one_seed(setting: Setting) -> Values:
    """Both nets, as drawn and trained."""
    values: Values = {}
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    for net in NETS:
        setting.say(f"training {net}")
        workload = workload_of(net)
        x, y = samples(workload, IMAGES)
        start, _ = neighbours(fresh(workload, setting.seed), x)
        model, _ = trained(workload, recipe(workload, setting.seed, epochs), setting)
        cosine, alignment = neighbours(model, x)
        values |= {
            f"{net} cosine": cosine,
            f"{net} cosine at the start": start,
            f"{net} cosine, trained minus start": cosine - start,
            f"{net} CKA": alignment,
            f"{net} error %": error(model, x, y),
        }
    return values


def judge(values: Values) -> bool | None:
    """Slow against fast; it cannot tell when a net did not train."""
    if max(values[f"{net} error %"] for net in NETS) > FITS:
        return None
    return values["resnet56 cosine"] > SLOW and values["plain20 cosine"] < FAST


def sentence(figures: Sequence[Figure]) -> str:
    """The cosines, and what CKA says of the same."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    return (
        f"A trained ResNet-56 gives back what it takes in with a cosine of {at['resnet56 cosine']} a block, a "
        "plain net of "
        f"20 layers with {at['plain20 cosine']} (as drawn {at['resnet56 cosine at the start']} and "
        f"{at['plain20 cosine at the start']}); CKA of the same pairs: {at['resnet56 CKA']} and {at['plain20 CKA']}."
    )


def on_model(workload: Workload, setting: Setting) -> Values:
    """How far a user's net has come from its start in a short training, and from merge to merge."""
    batch = next(workload.batches(setting.seed))
    held: list[Drift] = []

    def prepare(model: nn.Module) -> None:
        held.append(Drift(model, find(model, *batch.args, **batch.kwargs), batch.kwargs or batch.args))

    setting.say("training")
    steps = 60 if setting.quick else 300
    train_trial(
        workload, Recipe(steps, workload.batch_size, seed=setting.seed), prepare=prepare, threads=setting.threads
    )
    reading = held[0].now()
    moved = [w.change for w in reading.weights]
    return {
        "cosine of neighbouring merges": reading.adjacent,
        "cosine of neighbouring merges, trained minus start": reading.adjacent_change,
        "largest change of weights": max(moved),
        "median change of weights": median(moved),
    }


def on_model_sentence(figures: Sequence[Figure]) -> str:
    """The cosine and the weights' way."""
    return (
        f"Neighbouring merges have a cosine of {number(middle(figures, 'cosine of neighbouring merges'))} after "
        "training; a "
        f"layer's weights have moved by {number(100 * middle(figures, 'median change of weights'))} % (median), "
        f"{number(100 * middle(figures, 'largest change of weights'))} % at most."
    )


CLAIM = Claim(
    id="D7",
    title="Representations change slowly",
    statement="From one block to the next a trained residual net changes its representation little, a plain net much.",
    anchor="blocks refine their input iteratively (Greff et al. 2017; Jastrzębski et al. 2018)",
    criterion=f"mean cosine of a block's input and output: > {SLOW} in ResNet-56, < {FAST} in a plain net of 20 layers",
    refutes="a residual net whose blocks turn their input, or a plain one whose do not",
    setting=f"digits, width {WIDTH}, batch norm, {EPOCHS} epochs as in D1; {IMAGES} images, blocks that keep the shape",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        [f"{n} {k}" for n in NETS for k in ("cosine", "cosine at the start", "CKA")],
        "mean over blocks",
    ),
    effect="resnet56 cosine",
    caution="CKA does not tell the two nets apart: it asks for likeness up to a rotation.",
    topic="structure",
    duration="half a minute",
    trains=True,
    on_model=on_model,
    on_model_sentence=on_model_sentence,
)
CLAIMS.register(CLAIM.id, CLAIM, rank=107)
