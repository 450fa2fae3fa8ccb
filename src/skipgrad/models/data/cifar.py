"""``cifar10:DIR``: CIFAR-10 in its binary version, five files of 10,000 images; no pickle is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

_RECORD = 1 + 3 * 32 * 32


def load(ref: str, where: str) -> DataSource:
    """(N, 3, 32, 32) float32, standardised by channel, ten classes, from ``data_batch_*.bin``.

    Each record of a file is one byte of label and 3,072 bytes of pixels, red, green and blue planes in turn
    (https://www.cs.toronto.edu/~kriz/cifar.html). The training files alone are read.

    Raises:
        DataError: no such folder or files, the pickled version, or files of another length.
    """
    doing, folder = f"loading the data {ref!r}", Path(where).expanduser()
    if not folder.is_dir():
        raise DataError(doing, where=str(folder), received="no such folder", todo="check the path")
    if not list(folder.glob("data_batch_*.bin")) and (folder / "cifar-10-batches-bin").is_dir():
        folder = folder / "cifar-10-batches-bin"
    files = sorted(folder.glob("data_batch_*.bin"))
    if not files:
        python = [p for d in (folder, folder / "cifar-10-batches-py") for p in d.glob("data_batch_[0-9]")]
        if python:
            raise DataError(
                doing,
                where=str(python[0].parent),
                received="the Python version of CIFAR-10, which is pickled; unpickling runs code from the file",
                todo="use the binary version, cifar-10-binary.tar.gz (folder cifar-10-batches-bin)",
            )
        raise DataError(
            doing,
            where=str(folder),
            received="no file data_batch_*.bin",
            todo="name the folder cifar-10-batches-bin of cifar-10-binary.tar.gz",
        )
    arrays = []
    for path in files:
        raw = np.fromfile(path, dtype=np.uint8)
        if len(raw) == 0 or len(raw) % _RECORD:
            raise DataError(
                doing,
                where=str(path),
                received=f"{len(raw):,} bytes, no multiple of {_RECORD:,} (one label and 32×32×3 pixels)",
                todo="unpack cifar-10-binary.tar.gz again; the file is damaged or another",
            )
        arrays.append(raw.reshape(-1, _RECORD))
    records = np.concatenate(arrays)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    if int(labels.max()) > 9:
        raise DataError(
            doing, received=f"the label {int(labels.max())}", todo="CIFAR-10 has labels 0 to 9; CIFAR-100 is not read"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(records[:, 1:])).view(-1, 3, 32, 32)
    some = pixels[:10_000].float()
    mean, std = some.mean((0, 2, 3)), some.std((0, 2, 3)).clamp_min(1e-8)

    def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.as_tensor(list(indices))
        return (pixels[chosen].float() - mean[:, None, None]) / std[:, None, None], labels[chosen]

    about = f"{len(pixels):,} training images of CIFAR-10, 32×32 pixels, ten classes, standardised by channel"
    return DataSource(ref, "classification", len(pixels), gather, (3, 32, 32), 10, about)


DATA.register("cifar10", DataEntry(load, "cifar10:DIR"))
