"""How good a net is on samples it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.core.recipe import Precision
from skipgrad.instrument.seeding import kept_random
from skipgrad.models import Workload, main_output
from skipgrad.train.aids.accumulate import IGNORED, labels
from skipgrad.train.job.precision import Detections
from skipgrad.train.precision import autocast

# Task → the figure that decides which evaluation is best, and whether more is better.
FIGURES: dict[str, tuple[str, bool]] = {
    "classification": ("accuracy", True),
    "segmentation": ("iou", True),
    "detection": ("map", True),
}


def figure_of(task: str) -> tuple[str, bool]:
    """The figure that decides, and whether more of it is better."""
    return FIGURES.get(task, ("loss", False))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    held: Workload,
    *,
    device: torch.device,
    precision: Precision,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Loss, and accuracy, mean IoU or perplexity, over all samples held out; changes no random number.

    A detector returns detections in evaluation mode, and no loss: of it the mean average precision is told alone.

    The counts are added up in a confusion matrix, so batches of any size give the same figures. IoU is the mean over
    the classes of |prediction ∩ mask| / |prediction ∪ mask|, over all pixels; a class that is in neither is left out.

    Args:
        model: put into evaluation mode for it, and back.
        held: the samples, and their loss.
        device: where the model is.
        precision: of the training.
        stop: asked before each batch.

    Returns:
        The figures; None when ``stop`` said so.
    """
    before = [(m, m.training) for m in model.modules()]
    model.eval()
    total, many = 0.0, 0
    matrix: Tensor | None = None
    detections = Detections() if held.task == "detection" else None
    try:
        with kept_random(device):
            for batch in held.in_order():
                if stop():
                    return None
                batch = batch.to(device)
                with autocast(precision, device):
                    output = model(*batch.args, **batch.kwargs)
                    if detections is not None:
                        detections.add(output, batch.target)
                        continue
                    loss = held.loss(output, batch)
                count = labels(batch.target)
                total, many = total + float(loss) * count, many + count
                if held.task in FIGURES:
                    matrix = _counted(main_output(output), batch.target, held.task, matrix)
    finally:
        for module, mode in before:
            module.training = mode
    if detections is not None:
        return detections.figures()
    loss = total / many if many else math.nan
    return {"loss": loss, **_figures(held.task, loss, matrix)}


def _counted(logits: Tensor, target: Tensor, task: str, matrix: Tensor | None) -> Tensor:
    if task == "segmentation" and logits.shape[-2:] != target.shape[-2:]:
        logits = F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
    classes = logits.shape[1]
    known = target != IGNORED
    pairs = target[known] * classes + logits.argmax(1)[known]
    counts = torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return counts if matrix is None else matrix + counts


def _figures(task: str, loss: float, matrix: Tensor | None) -> dict[str, float]:
    if task == "language model":
        return {"perplexity": math.exp(loss) if loss < 700 else math.inf}
    if matrix is None:
        return {}
    right, all_ = matrix.diagonal().double(), matrix.sum().double()
    accuracy = float(right.sum() / all_)
    if task == "classification":
        return {"accuracy": accuracy}
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return {"iou": float((right[union > 0] / union[union > 0]).mean()), "accuracy": accuracy}
