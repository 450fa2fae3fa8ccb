"""Data in two parts: what is trained on, and what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from skipgrad.core import DataError
from skipgrad.models.data.source import DataSource, check_finite

_SEED = 20_150_210  # of which samples are held out; never a training's, so that all seeds are judged on the same


def parted(data: DataSource, share: float, least: int = 1) -> tuple[DataSource, DataSource | None]:
    """The part to train on and the part held out: the data's own test part, else ``share`` of them.

    Windows of a text overlap, so of a text the end is held out, with a window's length left out in between.

    Args:
        data: what is parted; a stream without a length has nothing held out.
        share: of the samples, 0 for nothing.
        least: samples that must be left to train on.

    Raises:
        DataError: fewer are left.
    """
    if data.test is not None:
        return data, data.test
    if data.size is None or share == 0:
        return data, None
    many = max(1, round(share * data.size))
    if data.task == "language model":
        gap = data.shape[0] if data.shape else 0
        train, held = range(data.size - many - gap), range(data.size - many, data.size)
        many += gap
    else:
        order = torch.randperm(data.size, generator=torch.Generator().manual_seed(_SEED)).tolist()
        train, held = sorted(order[many:]), sorted(order[:many])
    if len(train) < least:
        raise DataError(
            f"holding out a part of {data.ref!r}",
            received=f"{data.size} samples, of which {many} are held out; a batch has {least}",
            todo="use a smaller batch, or hold out less (holdout)",
        )
    return some(data, train), some(data, held)


def some(data: DataSource, indices: Sequence[int]) -> DataSource:
    """These samples of the data."""

    def gather(wanted: Sequence[int]) -> tuple[Any, Any]:
        return data.gather([indices[i] for i in wanted])

    return replace(data, size=len(indices), gather=gather, resize=None)


def readable(data: DataSource) -> tuple[DataSource, list[str]]:
    """The samples that can be read, and for each of the others what is wrong with it. A stream is handed on as it is.

    Raises:
        DataError: none can.
    """
    if data.size is None:
        return data, []

    def wrong(index: int) -> str | None:
        try:
            check_finite(data.gather([index])[0], [index], data.ref)
        except DataError as error:
            return f"{error.where or f'sample {index}'}: {error.received}"
        return None

    # Decoding lets other threads run meanwhile.
    with ThreadPoolExecutor(max_workers=4) as pool:
        told = list(pool.map(wrong, range(data.size)))
    bad = [text for text in told if text is not None]
    good = [i for i, text in enumerate(told) if text is None]
    if not good:
        raise DataError(
            f"reading the data {data.ref!r}", received=f"no sample that can be read; {bad[0]}", todo="give others"
        )
    test, more = (None, []) if data.test is None else readable(data.test)
    whole = data if not bad else replace(some(data, good), notes=(*data.notes, f"{len(bad)} of {data.size:,} left out"))
    return replace(whole, test=test), [*bad, *more]
