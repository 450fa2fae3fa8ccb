"""APP-SEGMENTATION: masks of thin shapes by a U-Net, a SegNet and a feature pyramid, against the same without joins."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.lab.applications import WITH, WITHOUT, Measure, application, contest
from skipgrad.lab.claim import Setting, Values
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.shapes import ShapeNet, images, scores, width_like
from skipgrad.lab.trained import Own

TRAIN, TEST, EPOCHS, QUICK_EPOCHS, BATCH, RATES, WIDTH = 300, 200, 6, 4, 20, (5e-3, 2e-3), 8
JOINS = {WITH: "concat", "with indices": "indices", "with laterals": "add", WITHOUT: "none"}
IOU = Measure("IoU", higher=True, learned=0.5, gap=0.05)


def one_seed(setting: Setting) -> Values:
    """Four nets of three halvings; the one without joins has as many weights as the U-Net, which has the most."""
    x, y = images(TRAIN, 10_000 + setting.seed)
    test = images(TEST, 20_000 + setting.seed)
    arms = {name: _own(join, x, y) for name, join in JOINS.items()}
    steps = (QUICK_EPOCHS if setting.quick else EPOCHS) * (TRAIN // BATCH)
    recipe = Recipe(steps, BATCH, "adam", warmup=0.05, schedule="cosine")

    def score(model: nn.Module) -> float:
        return scores(model, *test)[0]

    values = contest(arms, recipe, RATES, IOU, score, setting, long=True)
    gains = [IOU.gap_of(values, name) for name in JOINS if name != WITHOUT]
    values[IOU.gained] = min(gains)
    return values


def _own(join: str, x: Tensor, y: Tensor) -> Own:
    width = width_like("none", "concat", WIDTH) if join == "none" else WIDTH
    return Own(lambda: ShapeNet(join, width), x, y, F.binary_cross_entropy_with_logits, BATCH, f"shapes, {join}")


CLAIM = application(
    IOU,
    arms=tuple(JOINS),
    id="APP-SEGMENTATION",
    title="Segmentation: U-Net, SegNet, pyramid and none",
    statement="Masks of thin shapes come out better where the decoder gets something of the encoder: its "
    "features, where its maxima "
    "were, or its features through a 1×1 convolution, added.",
    anchor="U-Net: IoU .9203 and .7756 on the ISBI cell-tracking sets, against .83 and .46 before (Ronneberger "
    "et al. 2015)",
    criterion=f"{IOU.criterion}; the gap is that of the least of the three joins",
    setting=f"noisy 32×32 shapes with bars under 2 pixels thin, {TRAIN} to train and {TEST} to test, {EPOCHS} "
    f"epochs of {BATCH}, "
    f"Adam at the better of {RATES}, cosine; width {WIDTH}, without joins as many weights as the U-Net",
    caution="all four have short skips within their blocks; what is compared is what joins encoder and decoder",
    one_seed=one_seed,
    duration="one and a half minutes",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=202)
