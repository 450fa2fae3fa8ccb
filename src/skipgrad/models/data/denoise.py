"""``denoise:DATA``: images of other data with noise of all levels in them; what is learned is the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from skipgrad.core import DataError
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

STEPS = 1000
FIRST, LAST = 1e-4, 0.02  # β of the linear schedule, arXiv 2006.11239, 4


def load(ref: str, where: str) -> DataSource:
    """√ᾱ·x + √(1−ᾱ)·ε with its level as one more channel (n, C+1, H, W); the target is ε (n, C, H, W).

    The level is t of 1,000 steps of the linear schedule, drawn for each sample anew, in the channel as t/1000. A held
    out sample has always the same level and noise.

    Args:
        ref: the reference.
        where: the reference of the images.

    Raises:
        DataError: data that are no images.
    """
    inner = DATA.get(where.partition(":")[0]) if where.partition(":")[0] in DATA else None
    if inner is None or where.partition(":")[0] == "denoise":
        raise DataError(
            f"loading the data {ref!r}", received=f"no data {where!r}", todo="write for example denoise:digits"
        )
    rest = where.partition(":")[2]
    return _noised(ref, inner.load(where, rest) if rest else inner.load(where))


def _noised(ref: str, data: DataSource) -> DataSource:
    if len(data.shape) != 3 or data.task == "custom":
        raise DataError(
            f"loading the data {ref!r}",
            received=f"{data.task} data, no images",
            todo="write for example denoise:digits",
        )
    kept = torch.cumprod(1 - torch.linspace(FIRST, LAST, STEPS, dtype=torch.float64), 0)

    def gather(indices: Sequence[int]) -> tuple[Any, Any]:
        x, _ = data.gather(indices)
        level = torch.randint(0, STEPS, (len(x),))
        noise = torch.randn(x.shape)
        share = kept[level].float()[:, None, None, None]
        t = (level.float() / STEPS)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        return torch.cat([share.sqrt() * x + (1 - share).sqrt() * noise, t], 1), noise

    channels, *size = data.shape
    about = f"{data.about}; with noise of {STEPS:,} levels in them, and the level as one more channel"
    test = None if data.test is None else _noised(ref, data.test)
    made = DataSource(
        ref, "custom", data.size, gather, (channels + 1, *size), None, about, notes=data.notes, levels=STEPS
    )
    return replace(made, test=test)


DATA.register("denoise", DataEntry(load, "denoise:DATA"))
