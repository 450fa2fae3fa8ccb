"""``flow``: generated pairs of images, and how each pixel has moved from the first to the second."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource, from_tensors

SIZE, COUNT, LARGEST = 32, 2048, 2.0


def load(ref: str = "flow", count: int = COUNT, seed: int = 0) -> DataSource:
    """Pairs (count, 2, 32, 32) float32 of smooth random textures; flow (count, 2, 32, 32) in pixels, right and down.

    The second image at p is the first at p − flow(p). The flow is smooth, too, and at most two pixels: a shift, a
    turning and a stretching drawn for each pair.

    Args:
        ref: the reference, for messages.
        count: pairs.
        seed: of the generator.
    """
    dice = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, SIZE // 2, SIZE // 2, generator=dice)
    first = F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    first = (first - first.mean((1, 2, 3), keepdim=True)) / first.std((1, 2, 3), keepdim=True)
    flow = _flow(count, dice)
    second = _warped(first, flow)
    about = f"{count:,} generated pairs of images of {SIZE}×{SIZE} pixels, with the flow between them"
    whole = from_tensors(ref, "custom", torch.cat([first, second], 1), flow, classes=0, about=about)
    return replace(whole, classes=None)


def _flow(count: int, dice: torch.Generator) -> Tensor:
    """(count, 2, SIZE, SIZE) pixels."""
    line = torch.linspace(-1, 1, SIZE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    shift = (torch.rand(count, 2, 1, 1, generator=dice) - 0.5) * LARGEST
    turn, stretch = ((torch.rand(count, 1, 1, generator=dice) - 0.5) * LARGEST for _ in range(2))
    moved = torch.stack([stretch * x - turn * y, turn * x + stretch * y], 1) / 2**0.5
    return (shift + moved).clamp(-LARGEST, LARGEST)


def _warped(image: Tensor, flow: Tensor) -> Tensor:
    line = torch.arange(SIZE, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    at = torch.stack([x - flow[:, 0], y - flow[:, 1]], -1) / (SIZE - 1) * 2 - 1
    return F.grid_sample(image, at, mode="bilinear", padding_mode="border", align_corners=True)


DATA.register("flow", DataEntry(load, "flow"))
