"""D9: the long skips of a U-Net bring back fine detail."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from skipgrad.core import Recipe
from skipgrad.core.units import number
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import dots
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.shapes import ShapeNet, images, scores, weights, width_like
from skipgrad.lab.trained import Own, trained

TRAIN, TEST, EPOCHS, QUICK_EPOCHS, BATCH, RATE, WIDTH = 300, 200, 25, 8, 20, 2e-3, 8
GAP, EDGES, LEARNED = 0.10, 1.5, 0.5


def segmented(join: str, width: int, setting: Setting, epochs: int) -> tuple[float, float, int]:
    """IoU, boundary error and weights of one net after training."""
    x, y = images(TRAIN, 10_000 + setting.seed)
    own = Own(lambda: ShapeNet(join, width), x, y, F.binary_cross_entropy_with_logits, BATCH, f"shapes, {join}")
    steps = epochs * (TRAIN // BATCH)
    model, _ = trained(own, Recipe(steps, BATCH, "adam", RATE, setting.seed), setting)
    iou, edge = scores(model, *images(TEST, 20_000 + setting.seed))
    return iou, edge, weights(model)


def one_seed(setting: Setting) -> Values:
    """With and without long skips, at equal numbers of weights."""
    epochs = QUICK_EPOCHS if setting.quick else EPOCHS
    setting.say("with long skips")
    with_iou, with_edge, with_weights = segmented("concat", WIDTH, setting, epochs)
    setting.say("without")
    iou, edge, count = segmented("none", width_like("none", "concat", WIDTH), setting, epochs)
    return {
        "IoU with": with_iou,
        "IoU without": iou,
        "IoU gained": with_iou - iou,
        "boundary error with": with_edge,
        "boundary error without": edge,
        "boundary error, ratio": edge / with_edge,
        "weights with": float(with_weights),
        "weights without": float(count),
    }


def judge(values: Values) -> bool | None:
    """Both gaps; it cannot tell when the U-Net has not learned."""
    if values["IoU with"] < LEARNED:
        return None
    return values["IoU gained"] >= GAP and values["boundary error, ratio"] >= EDGES


def sentence(figures: Sequence[Figure]) -> str:
    """IoU and boundaries."""
    at = {n: number(middle(figures, n)) for n in figures[0].values}
    return (
        f"IoU {at['IoU with']} with long skips and {at['IoU without']} without, at {at['weights with']} and "
        f"{at['weights without']} weights; {at['boundary error, ratio']} times as many boundary pixels are wrong "
        "without."
    )


CLAIM = Claim(
    id="D9",
    title="Long skips bring back fine detail",
    statement="What pooling has thrown away reaches the decoder by the long skips: masks get thin parts and edges "
    "right.",
    anchor="U-Net: IoU .9203 and .7756 on the ISBI cell-tracking sets, against .83 and .46 before (Ronneberger et "
    "al. 2015)",
    criterion=f"IoU with − without ≥ {GAP:g}, boundary error without ≥ {EDGES:g} × with, at equal numbers of weights",
    refutes="a net without long skips that segments as well",
    setting=f"noisy 32×32 shapes with bars under 2 pixels thin, {TRAIN} to train and {TEST} to test, {EPOCHS} "
    "epochs of "
    f"{BATCH}, Adam {RATE:g}; both with short skips",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: dots(
        figures,
        ["IoU with", "IoU without", "boundary error with", "boundary error without"],
        "IoU; share of pixels wrong",
    ),
    effect="IoU gained",
    topic="structure",
    duration="one minute",
    trains=True,
    not_on_model="it needs the same net without its long skips: the remedy `scalelong` with factor=0 makes one of "
    "yours",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=109)
