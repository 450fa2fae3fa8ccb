"""``cifar10:DIR``, ``cifar100:DIR``: CIFAR in its binary or its Python version."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.files import folder_of, none_there
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

_PIXELS = 3 * 32 * 32
_SAMPLED = 10_000  # images whose mean and deviation are taken

# Folder of the binary and of the Python version; their training files, and their test file.
_FILES = {
    10: (
        ("cifar-10-batches-bin", "data_batch_*.bin", "test_batch.bin"),
        ("cifar-10-batches-py", "data_batch_[0-9]", "test_batch"),
    ),
    100: (("cifar-100-binary", "train.bin", "test.bin"), ("cifar-100-python", "train", "test")),
}


def load(ref: str, where: str) -> DataSource:
    """(N, 3, 32, 32) float32, standardised by channel; ten or a hundred classes, with the test part its makers keep.

    A record of the binary version is one byte of label – two in CIFAR-100, coarse and fine, of which the fine one is
    taken – and 3,072 bytes of pixels, red, green and blue planes in turn (https://www.cs.toronto.edu/~kriz/cifar.html).
    Of the pickled Python version only what arrays of bytes and lists of numbers need is unpickled: no code runs.

    Raises:
        DataError: no such folder or files, files of another length, or labels that cannot be.
    """
    classes = 100 if ref.partition(":")[0] == "cifar100" else 10
    doing, root = f"loading the data {ref!r}", folder_of(ref, where)
    for (inner, train, test), read in zip(_FILES[classes], (_binary, _pickled), strict=True):
        for folder in (root, root / inner):
            files = sorted(folder.glob(train))
            if files:
                parts = [read(path, classes, doing) for path in files]
                pixels, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
                held = read(folder / test, classes, doing) if (folder / test).exists() else None
                return _source(ref, classes, pixels, labels, held)
    (one, train_one, _), (two, train_two, _) = _FILES[classes]
    raise none_there(doing, root, f"{train_one} (folder {one}) or {train_two} (folder {two})")


def _source(ref: str, classes: int, pixels: Any, labels: Any, held: tuple[Any, Any] | None) -> DataSource:
    some = torch.from_numpy(pixels[:_SAMPLED]).view(-1, 3, 32, 32).float()
    mean, std = some.mean((0, 2, 3))[:, None, None], some.std((0, 2, 3)).clamp_min(1e-8)[:, None, None]

    def part(pixels: Any, labels: Any, what: str) -> DataSource:
        images, targets = torch.from_numpy(pixels).view(-1, 3, 32, 32), torch.from_numpy(labels)

        def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            chosen = torch.as_tensor(list(indices))
            return (images[chosen].float() - mean) / std, targets[chosen]

        about = f"{len(images):,} {what} images of CIFAR-{classes}, 32×32 pixels, standardised by channel"
        return DataSource(ref, "classification", len(images), gather, (3, 32, 32), classes, about)

    test = None if held is None else part(*held, "test")
    return replace(part(pixels, labels, "training"), test=test)


def _binary(path: Path, classes: int, doing: str) -> tuple[np.ndarray, np.ndarray]:
    head = 1 if classes == 10 else 2
    raw = np.fromfile(path, dtype=np.uint8)
    if len(raw) == 0 or len(raw) % (head + _PIXELS):
        raise DataError(
            doing,
            where=str(path),
            received=f"{len(raw):,} bytes, no multiple of {head + _PIXELS:,} ({head} of label and 32×32×3 pixels)",
            todo="unpack the archive again; the file is damaged or another",
        )
    records = raw.reshape(-1, head + _PIXELS)
    return np.ascontiguousarray(records[:, head:]), _labels(records[:, head - 1], classes, path, doing)


def _pickled(path: Path, classes: int, doing: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        held = _Plain(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels = np.asarray(held[b"data"], dtype=np.uint8).reshape(-1, _PIXELS)
        labels = np.asarray(held[b"labels" if classes == 10 else b"fine_labels"])
    except Exception as error:
        raise DataError(
            doing,
            where=str(path),
            received=f"{type(error).__name__}: {error}",
            todo="unpack the archive again; the file is damaged or another",
        ) from error
    if len(pixels) != len(labels):
        raise DataError(
            doing, where=str(path), received=f"{len(pixels)} images and {len(labels)} labels", todo="unpack it again"
        )
    return np.ascontiguousarray(pixels), _labels(labels, classes, path, doing)


class _Plain(pickle.Unpickler):
    """Unpickles arrays and plain data; whatever else a file names is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        ):
            return super().find_class(module, name)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which pixels and labels do not need")


def _labels(raw: np.ndarray, classes: int, path: Path, doing: str) -> np.ndarray:
    labels = raw.astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            doing,
            where=str(path),
            received=f"the label {int(labels.max())}; CIFAR-{classes} has labels 0 to {classes - 1}",
            todo="name the folder of the other CIFAR cifar10:DIR or cifar100:DIR, as it is",
        )
    return labels


DATA.register("cifar10", DataEntry(load, "cifar10:DIR"))
DATA.register("cifar100", DataEntry(load, "cifar100:DIR"))
