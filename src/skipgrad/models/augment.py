"""Changes drawn anew each time a sample is trained on, from a seed of the sample and the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from skipgrad.core import DataError

PADDING = 4  # pixels around a 32×32 image, as in He et al., arXiv 1512.03385, 4.2
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a resized crop, as in Szegedy et al., arXiv 1409.4842, and torchvision


def augmented(name: str, x: Any, y: Any, seeds: Sequence[int]) -> tuple[Any, Any]:
    """A batch of images, each changed by its own seed; a mask is flipped with its image.

    Args:
        name: flip, crop-flip or resized-crop-flip.
        x: images (n, C, H, W).
        y: classes (n,), or masks (n, H, W), which can be flipped only.
        seeds: one a sample.

    Raises:
        DataError: samples that are no images; crops of images with masks.
    """
    masks = isinstance(y, Tensor) and y.dim() == 3
    if not (isinstance(x, Tensor) and x.dim() == 4) or (masks and name != "flip"):
        received = "images with masks" if masks else "samples that are no images"
        raise DataError(f"augmenting by {name}", received=received, todo="use augment = 'flip' or 'none'")
    images, targets = [], []
    for k, seed in enumerate(seeds):
        dice = torch.Generator().manual_seed(seed % (1 << 63))
        image = x[k]
        if name == "crop-flip":
            image = _cropped(image, dice)
        elif name == "resized-crop-flip":
            image = _resized_crop(image, dice)
        flip = bool(torch.rand((), generator=dice) < 0.5)
        images.append(image.flip(-1) if flip else image)
        if masks:
            targets.append(y[k].flip(-1) if flip else y[k])
    return torch.stack(images), torch.stack(targets) if masks else y


def _cropped(image: Tensor, dice: torch.Generator) -> Tensor:
    height, width = image.shape[-2:]
    top, left = torch.randint(0, 2 * PADDING + 1, (2,), generator=dice).tolist()
    return F.pad(image, (PADDING,) * 4)[:, top : top + height, left : left + width]


def _resized_crop(image: Tensor, dice: torch.Generator) -> Tensor:
    height, width = image.shape[-2:]
    area, ratio, down, right = torch.rand(4, generator=dice, dtype=torch.float64).tolist()
    area = (AREA[0] + area * (AREA[1] - AREA[0])) * height * width
    ratio = RATIO[0] * (RATIO[1] / RATIO[0]) ** ratio
    h, w = min(height, max(1, round((area / ratio) ** 0.5))), min(width, max(1, round((area * ratio) ** 0.5)))
    top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
    part = image[None, :, top : top + h, left : left + w]
    return F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False, antialias=h > height)[0]
