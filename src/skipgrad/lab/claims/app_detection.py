"""APP-DETECTION: shapes in boxes by Faster R-CNN, with laterals and without; Mask R-CNN found and measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.core import Recipe
from skipgrad.core.extras import wanted
from skipgrad.lab.applications import WITH, WITHOUT, Measure, application, contest, found_and_measured
from skipgrad.lab.claim import Setting, Values
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.scenes import Scenes, mean_average_precision
from skipgrad.models.data.detection import CLASSES, SIDE, scenes
from skipgrad.models.nets.fasterrcnn import detector

TRAIN, TEST, STEPS, QUICK_STEPS, BATCH, RATES = 400, 100, 150, 80, 8, (2e-3, 5e-3)
PRECISION = Measure("mAP", higher=True, learned=0.15, gap=0.05)


def one_seed(setting: Setting) -> Values:
    """Both detectors on generated scenes; and, in the full version, one batch through Mask R-CNN."""
    x, targets = scenes(TRAIN, 10_000 + setting.seed)
    test = scenes(TEST, 20_000 + setting.seed)
    arms = {
        name: Scenes(lambda on=on: detector(laterals=on), x, targets, BATCH)
        for name, on in ((WITH, True), (WITHOUT, False))
    }
    recipe = Recipe(QUICK_STEPS if setting.quick else STEPS, BATCH, "adam", clip=5.0, warmup=0.05, schedule="cosine")

    def score(model: nn.Module) -> float:
        return mean_average_precision(model, *test)["map"]

    values = contest(arms, recipe, RATES, PRECISION, score, setting, long=True)
    if setting.quick:
        return values
    setting.say("Mask R-CNN on two images")
    return values | mask_rcnn(setting.seed)


def mask_rcnn(seed: int) -> Values:
    """torchvision's Mask R-CNN with a ResNet-50 and a pyramid, weights as drawn, on two scenes with masks."""
    with wanted("models", "measuring Mask R-CNN"):
        from torchvision.models.detection import maskrcnn_resnet50_fpn
    x, targets = scenes(2, 30_000 + seed)

    def make() -> nn.Module:
        return maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=len(CLASSES) + 1, min_size=SIDE, max_size=SIDE,
            rpn_pre_nms_top_n_train=100, rpn_post_nms_top_n_train=20, rpn_batch_size_per_image=32,
            box_batch_size_per_image=16,
        ).train()  # fmt: skip

    def loss(losses: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(losses.values())).sum()

    return found_and_measured("Mask R-CNN", make, (list(x), targets), loss)


CLAIM = application(
    PRECISION,
    id="APP-DETECTION",
    title="Detection: a pyramid with laterals against none",
    statement="Faster R-CNN finds small shapes better when the finer levels of its pyramid get the backbone's "
    "features through "
    "laterals than when they get only what comes down.",
    anchor="FPN on COCO, RPN's average recall of 1,000 proposals: 56.3, without laterals 46.1 (Lin et al. 2017)",
    setting=f"generated {SIDE}×{SIDE} images of {', '.join(CLASSES)} from 5 to 20 pixels in noise, {TRAIN} to "
    f"train and {TEST} to test; "
    f"torchvision's Faster R-CNN on a residual backbone of four stages, {STEPS} steps of {BATCH}, Adam at the "
    f"better of {RATES}, "
    "cosine; COCO's mAP by torchmetrics; Mask R-CNN: ResNet-50 and pyramid, two scenes",
    caution="without laterals the features of the finer levels are zeros on the way in, so both have the same "
    "weights; the short "
    "skips of the backbone stay in both",
    one_seed=one_seed,
    duration="one and a half minutes",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=203)
