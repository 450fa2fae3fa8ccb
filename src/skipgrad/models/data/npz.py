"""``npz:FILE``: arrays ``x`` and ``y`` of a numpy file, with ``x_test`` and ``y_test`` where it has them."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skipgrad.core import DataError
from skipgrad.models.data.files import file_of
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource, Task, from_tensors

_NAMES = (("x", "y"), ("X", "y"), ("images", "labels"), ("data", "targets"), ("x_train", "y_train"))
_TESTS = (("x_test", "y_test"), ("X_test", "y_test"), ("test_images", "test_labels"))


def load(ref: str, where: str) -> DataSource:
    """x (N, …) as it is, whole numbers of a byte divided by 255; y whole numbers: a class each, or masks (N, H, W).

    Images are (N, C, H, W); those of (N, H, W) get a channel, and those of (N, H, W, 3) have theirs put first. Targets
    that are no whole numbers, and x of another form, go to the model as they are. Nothing pickled is read.

    Raises:
        DataError: no such file, no such arrays, arrays of objects or of different lengths, or negative labels.
    """
    doing, path = f"loading the data {ref!r}", file_of(ref, where)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise DataError(
            doing,
            where=str(path),
            received=f"{type(error).__name__}: {error}",
            todo="write it with numpy.savez(path, x=…, y=…), without arrays of objects",
        ) from error
    pair = next((p for p in _NAMES if p[0] in arrays and p[1] in arrays), None)
    if pair is None:
        raise DataError(
            doing,
            where=str(path),
            received=f"arrays {', '.join(arrays) or 'none'}",
            todo="call them x and y: numpy.savez(path, x=…, y=…)",
        )
    source = _part(ref, path, arrays[pair[0]], arrays[pair[1]], doing, None)
    held_out = next((p for p in _TESTS if p[0] in arrays and p[1] in arrays), None)
    if held_out is None:
        return source
    return replace(source, test=_part(ref, path, arrays[held_out[0]], arrays[held_out[1]], doing, source.classes))


def _part(ref: str, path: Path, x: Any, y: Any, doing: str, classes: int | None) -> DataSource:
    if len(x) != len(y):
        raise DataError(
            doing, where=str(path), received=f"{len(x)} inputs and {len(y)} targets", todo="give one target each"
        )
    inputs = torch.from_numpy(np.ascontiguousarray(x))
    inputs = (
        inputs.float() / 255
        if inputs.dtype == torch.uint8
        else inputs.float()
        if inputs.is_floating_point()
        else inputs
    )
    whole = np.issubdtype(y.dtype, np.integer)
    targets = (
        torch.from_numpy(np.ascontiguousarray(y)).long() if whole else torch.from_numpy(np.ascontiguousarray(y)).float()
    )
    if whole and targets.dim() == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    inputs, task = _formed(inputs, targets, whole)
    about = f"{len(inputs):,} samples of {tuple(inputs.shape[1:])} in {path.name}"
    if task == "custom":
        known = from_tensors(ref, "custom", inputs, targets, classes=0, about=about)
        return replace(known, classes=None)
    if len(targets) and int(targets.min()) < 0 and int(targets[targets < 0].max()) != -100:
        raise DataError(
            doing,
            where=str(path),
            received=f"the label {int(targets.min())}",
            todo="number the classes from 0; mark what is to be left out by -100",
        )
    many = classes or int(targets.max()) + 1
    return from_tensors(ref, task, inputs, targets, classes=many, about=f"{about}, {many} classes")


def _formed(x: torch.Tensor, y: torch.Tensor, whole: bool) -> tuple[torch.Tensor, Task]:
    """The inputs as images, where they are, and what the targets are."""
    if not whole or not x.is_floating_point():
        return x, "custom"
    if x.dim() == 3:
        x = x[:, None]
    elif x.dim() == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        x = x.permute(0, 3, 1, 2).contiguous()
    if x.dim() != 4:
        return x, "custom"
    if y.dim() == 1:
        return x, "classification"
    return x, "segmentation" if y.dim() == 3 and y.shape[1:] == x.shape[2:] else "custom"


DATA.register("npz", DataEntry(load, "npz:FILE"))
