"""Images that are decoded when a batch needs them, of whatever sizes, with a class each."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.source import DataSource

_LARGEST = 224
_LOOKED_AT = 64


@dataclass(frozen=True)
class Pictures:
    """Images by number.

    Attributes:
        labels: class of each.
        size: (width, height) of one; raises DataError where it cannot be read.
        pixels: one scaled to (s, s, 3) uint8, from its number and s; raises DataError where it cannot be decoded.
    """

    labels: Sequence[int]
    size: Callable[[int], tuple[int, int]]
    pixels: Callable[[int, int], np.ndarray]


def classified(ref: str, train: Pictures, held: Pictures | None, classes: Sequence[str]) -> DataSource:
    """RGB images (n, 3, S, S) float32, standardised by channel over a look at some of them.

    S is the side that most of these share, else their median side (at most 224); the fit may choose another.

    Args:
        ref: the reference.
        train: what is trained on.
        held: what is kept for evaluation.
        classes: their names.

    Raises:
        DataError: none of those looked at can be decoded.
    """
    looked = _decodable(train, np.linspace(0, len(train.labels) - 1, min(_LOOKED_AT, len(train.labels))).astype(int))
    sizes = [train.size(i) for i in looked]
    common, count = Counter(sizes).most_common(1)[0]
    same = count == len(sizes) and common[0] == common[1]
    side = common[0] if same else int(min(_LARGEST, statistics.median(min(size) for size in sizes)))
    pixels = np.stack([train.pixels(i, 32) for i in looked]).astype(np.float32)
    mean = torch.from_numpy(pixels.mean((0, 1, 2)))[:, None, None]
    std = torch.from_numpy(pixels.std((0, 1, 2))).clamp_min(1e-3)[:, None, None]
    notes = (
        () if same else (f"images of different sizes are scaled to {side}×{side} pixels, whatever their proportions",)
    )

    def at(size: int) -> DataSource:
        test = None if held is None else part(held, size, "kept for evaluation")
        return replace(part(train, size), notes=notes, resize=at, test=test)

    def part(images: Pictures, size: int, what: str = "") -> DataSource:
        def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            raw = np.stack([images.pixels(i, size) for i in indices])
            x = torch.from_numpy(raw).permute(0, 3, 1, 2).float()
            return ((x - mean) / std).contiguous(), torch.tensor([images.labels[i] for i in indices])

        many, names = len(images.labels), f"{', '.join(classes[:5])}{' …' * (len(classes) > 5)}"
        about = f"{many:,} images{' ' * bool(what)}{what} in {len(classes)} classes ({names})"
        return DataSource(ref, "classification", many, gather, (3, size, size), len(classes), about)

    return at(side)


def _decodable(images: Pictures, numbers: Sequence[int] | np.ndarray) -> list[int]:
    """Those that can be read; the others are told when a batch needs them, or left out by whoever asks for that.

    Raises:
        DataError: none can.
    """
    good: list[int] = []
    error: DataError | None = None
    for i in map(int, numbers):
        try:
            images.pixels(i, 1)
            good.append(i)
        except DataError as bad:
            error = bad
    if not good and error is not None:
        raise error
    return good
