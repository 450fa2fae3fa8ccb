"""``shapes``: generated images with thin bars, rings and boxes in noise, and their masks."""

from __future__ import annotations

import torch
from torch import Tensor

from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource, from_tensors, standardise

SIZE, COUNT = 32, 2048


def load(ref: str = "shapes", count: int = COUNT, seed: int = 0) -> DataSource:
    """(count, 1, 32, 32) float32 noisy images; masks (count, 32, 32) with 0 background, 1 shape.

    Three shapes an image: a bar one or two pixels thin, a disc, the outline of a box. The details are finer than
    what survives three halvings of the resolution, so that a net has to carry them past its bottleneck.

    Args:
        ref: the reference, for messages.
        count: images.
        seed: of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = _masks(count, generator)
    noise = torch.randn(count, SIZE, SIZE, generator=generator)
    x = standardise((masks + 0.5 * noise)[:, None])
    about = f"{count:,} generated images of {SIZE}×{SIZE} pixels, thin bars, discs and boxes in noise, with their masks"
    return from_tensors(ref, "segmentation", x, masks.long(), classes=2, about=about)


def _masks(count: int, generator: torch.Generator) -> Tensor:
    """(count, 32, 32) booleans as float, all images drawn at once."""

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (count, 1, 1), generator=generator)

    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    thin, start, length, at, upright = draw(1, 3), draw(0, 12), draw(12, 24), draw(1, SIZE - 2), draw(0, 2).bool()
    along, across = torch.where(upright, rows, columns), torch.where(upright, columns, rows)
    bar = (across >= at) & (across < at + thin) & (along >= start) & (along < start + length)
    radius, y, x = draw(2, 6), draw(5, SIZE - 5), draw(5, SIZE - 5)
    disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    top, left, height, width = draw(0, SIZE - 12), draw(0, SIZE - 12), draw(5, 12), draw(5, 12)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    core = (rows > top) & (rows < top + height - 1) & (columns > left) & (columns < left + width - 1)
    return (bar | disc | (inside & ~core)).float()


DATA.register("shapes", DataEntry(load, "shapes"))
