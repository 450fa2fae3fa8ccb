"""What a reference to data resolves to: samples by index, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from skipgrad.core import DataError

Task = Literal["classification", "segmentation", "detection", "language model", "custom"]


@dataclass(frozen=True)
class DataSource:
    """Data that batches can be drawn from.

    Attributes:
        ref: the reference it was resolved from.
        task: what the targets are: a class per image, a class per pixel, boxes (a dict an image, as torchvision's
            detectors take them), the next token, or the user's own.
        size: number of samples; None for a stream that has no length.
        gather: samples by index → (inputs, targets). Images are (n, C, H, W) float32, token ids (n, T) int64.
        shape: shape of one input without the batch; () when samples are not tensors.
        classes: number of classes, or of tokens; None when it is not known.
        about: one plain sentence about where the data come from.
        stream: makes an endless iterator of ready batches ``(inputs, targets)`` from a seed, for data without indices.
        notes: sentences for the fit (what had to be done to the data).
        resize: sets the size images are decoded to, for images that have no common size.
        foreign: whether code of somebody else's makes the samples, which may draw random numbers from anywhere.
        levels: of how many noise levels the last channel of an input is one, as t / levels; 0 where it is none.
        test: samples the data's makers keep for evaluation; None where they have not.
    """

    ref: str
    task: Task
    size: int | None
    gather: Callable[[Sequence[int]], tuple[Any, Any]]
    shape: tuple[int, ...] = ()
    classes: int | None = None
    about: str = ""
    stream: Callable[[int, int], Any] | None = None
    notes: tuple[str, ...] = ()
    resize: Callable[[int], DataSource] | None = None
    test: DataSource | None = None
    foreign: bool = False
    levels: int = 0


def from_tensors(
    ref: str, task: Task, x: Tensor, y: Tensor, *, classes: int, about: str, notes: tuple[str, ...] = ()
) -> DataSource:
    """Data that lie in memory: x (N, …), y (N, …)."""

    def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(list(indices))
        return x[chosen], y[chosen]

    return DataSource(ref, task, len(x), gather, tuple(x.shape[1:]), classes, about, notes=notes)


def standardise(x: Tensor) -> Tensor:
    """Zero mean and unit standard deviation over everything; constant data become zeros."""
    x = x.float()
    return (x - x.mean()) / x.std().clamp_min(1e-8)


def check_finite(x: Any, indices: Sequence[int], ref: str) -> None:
    """Raises DataError where a floating-point input holds NaN or infinity; names the sample and how many.

    Args:
        x: inputs of one batch.
        indices: which samples of the data they are.
        ref: the data's reference.
    """
    if not (isinstance(x, Tensor) and x.is_floating_point()) or bool(torch.isfinite(x).all()):
        return
    bad = (~torch.isfinite(x)).flatten(1).sum(1) if x.ndim > 1 else (~torch.isfinite(x)).long()
    rows = bad.nonzero().flatten().tolist()
    raise DataError(
        f"reading the data {ref!r}",
        where=f"sample {indices[rows[0]]}",
        received=f"{int(bad[rows[0]])} of {x[0].numel()} values are NaN or infinite; {len(rows)} of {len(x)} samples "
        "of the batch are affected",
        todo="clean the data, or leave these samples out",
    )
