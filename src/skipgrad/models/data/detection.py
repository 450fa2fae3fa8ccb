"""``detection``: generated scenes of discs, boxes and crosses, and a box around each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

SIDE, CLASSES, COUNT = 64, ("disc", "box", "cross"), 500
Target = dict[str, Tensor]


def scenes(count: int, seed: int) -> tuple[Tensor, list[Target]]:
    """(count, 3, 64, 64) images in noise, and for each the boxes (n, 4), labels (n,) from 1 and masks (n, 64, 64).

    One to four shapes of 5 to 20 pixels an image, of three kinds, whose boxes do not meet.
    """
    dice = torch.Generator().manual_seed(seed)
    x = 0.3 * torch.randn(count, 3, SIDE, SIDE, generator=dice)
    targets = []
    for image in x:
        boxes: list[list[int]] = []
        labels, masks = [], []
        for _ in range(int(torch.randint(1, 5, (), generator=dice))):
            size = int(torch.randint(5, 21, (), generator=dice))
            left, top = torch.randint(1, SIDE - size, (2,), generator=dice).tolist()
            box = [left, top, left + size, top + size]
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
                continue
            kind = int(torch.randint(len(CLASSES), (), generator=dice))
            mask = torch.zeros(SIDE, SIDE)
            mask[box[1] : box[3], box[0] : box[2]] = _shape(kind, size)
            image += mask * (0.5 + torch.rand(3, 1, 1, generator=dice))
            boxes.append(box)
            labels.append(kind + 1)
            masks.append(mask.to(torch.uint8))
        found = {"boxes": torch.tensor(boxes).float(), "labels": torch.tensor(labels), "masks": torch.stack(masks)}
        targets.append(found)
    return x, targets


def _shape(kind: int, size: int) -> Tensor:
    line = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    if kind == 0:
        return (x**2 + y**2 <= 1.0).float()
    if kind == 1:
        return torch.ones(size, size)
    return ((x.abs() <= 0.34) | (y.abs() <= 0.34)).float()


def load(ref: str = "detection", count: int = COUNT, seed: int = 0) -> DataSource:
    """Scenes as `scenes` makes them; a batch is a list of images and a list of what is on them, as torchvision has it.

    Args:
        ref: the reference, for messages.
        count: scenes.
        seed: of the generator.
    """
    x, targets = scenes(count, seed)

    def gather(indices: Sequence[int]) -> tuple[list[Tensor], list[Target]]:
        return [x[i] for i in indices], [targets[i] for i in indices]

    about = f"{count:,} generated scenes of {SIDE}×{SIDE} pixels, one to four shapes of {len(CLASSES)} kinds on each"
    return DataSource(ref, "detection", count, gather, tuple(x.shape[1:]), 1 + len(CLASSES), about)


DATA.register("detection", DataEntry(load, "detection", extra="models", package="torchvision"))
