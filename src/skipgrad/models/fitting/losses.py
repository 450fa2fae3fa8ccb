"""The loss of each task."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skipgrad.core import DataError, ModelError
from skipgrad.models.output import main_output
from skipgrad.models.workload import Batch


def classification(output: Any, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of logits (N, K) and classes (N,)."""
    return F.cross_entropy(main_output(output), batch.target, label_smoothing=label_smoothing)


def segmentation(output: Any, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of logits (N, K, h, w), interpolated to the mask's size, and classes (N, H, W)."""
    logits = main_output(output)
    if logits.shape[-2:] != batch.target.shape[-2:]:
        logits = F.interpolate(logits, size=batch.target.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits, batch.target, label_smoothing=label_smoothing)


def detection(output: Any, batch: Batch) -> Tensor:
    """The sum of the losses that a detector in training mode returns.

    Raises:
        ModelError: it returned something else.
    """
    if not isinstance(output, dict) or not all(isinstance(v, Tensor) and v.numel() == 1 for v in output.values()):
        raise ModelError(
            "computing the loss of a detector",
            received=f"a {type(output).__name__}, no dict of losses",
            todo="return a dict of losses in training mode, as torchvision's detectors do",
        )
    return torch.stack(list(output.values())).sum()


def language(output: Any, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of logits (N, T, V) and the token after each position (N, T)."""
    logits = main_output(output).flatten(0, -2)
    return F.cross_entropy(logits, batch.target.flatten(), label_smoothing=label_smoothing)


def custom(output: Any, batch: Batch) -> Tensor:
    """The model's own loss where its output has one; else by the target's type: cross entropy or squared error.

    Raises:
        ModelError: output and target do not fit together.
        DataError: a label beyond the head.
    """
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return own
    logits, target = main_output(output), batch.target
    if not isinstance(target, Tensor):
        raise ModelError(
            "computing the loss of your own data",
            received=f"a target of type {type(target).__name__} and an output without a loss",
            todo="return (input, target) with a tensor as target, or a model whose output has the entry 'loss'",
        )
    if not target.is_floating_point():
        if logits.ndim == target.ndim + 1:
            many = logits.movedim(-1, 1) if logits.shape[:-1] == target.shape else logits
            if int(target.max()) >= many.shape[1]:
                raise DataError(
                    "computing the loss of your own data",
                    received=f"the label {int(target.max())}; the head has {many.shape[1]} outputs, "
                    f"for labels from 0 to {many.shape[1] - 1}",
                    todo="build the model with as many outputs as there are classes",
                )
            return F.cross_entropy(many, target)
    elif logits.shape == target.shape or logits.squeeze(-1).shape == target.shape:
        return F.mse_loss(logits.reshape(target.shape), target)
    raise ModelError(
        "computing the loss of your own data",
        received=f"an output {tuple(logits.shape)} and a target {tuple(target.shape)} {target.dtype}",
        todo="give class numbers for an output with one dimension more, or floats of the output's shape",
    )
