"""``mnist:DIR``: MNIST, and what is kept as it is (Fashion-MNIST, KMNIST): idx files, gzipped or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.files import folder_of, none_there
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

_SAMPLED = 10_000


def load(ref: str, where: str) -> DataSource:
    """(N, 1, H, W) float32, standardised, and the classes of the labels, with the test part (``t10k-…``) where it is.

    An idx file is two zero bytes, a byte 8 for unsigned bytes, the number of dimensions, each as four bytes, big end
    first, and the values.

    Raises:
        DataError: no such folder or files, or files that are cut short or of another kind.
    """
    doing, root = f"loading the data {ref!r}", folder_of(ref, where)
    images, labels = (_found(root, f"train-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    if images is None or labels is None:
        missing = "train-images-idx3-ubyte" if images is None else "train-labels-idx1-ubyte"
        raise none_there(doing, root, f"{missing} (with or without .gz)")
    x, y = _pair(images, labels, doing)
    classes = int(y.max()) + 1
    some = torch.from_numpy(x[:_SAMPLED]).float()
    mean, std = some.mean(), some.std().clamp_min(1e-8)

    def part(x: np.ndarray, y: np.ndarray, what: str) -> DataSource:
        pixels, targets = torch.from_numpy(x)[:, None], torch.from_numpy(y)

        def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            chosen = torch.as_tensor(list(indices))
            return (pixels[chosen].float() - mean) / std, targets[chosen]

        shape = tuple(pixels.shape[1:])
        about = (
            f"{len(x):,} {what} images of {shape[1]}×{shape[2]} pixels in {classes} classes (idx files), standardised"
        )
        return DataSource(ref, "classification", len(x), gather, shape, classes, about)

    held = [_found(root, f"t10k-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    test = part(*_pair(held[0], held[1], doing), "test") if held[0] is not None and held[1] is not None else None
    return replace(part(x, y, "training"), test=test)


def _found(root: Path, name: str) -> Path | None:
    places = [folder / (name + end) for folder in (root, root / "MNIST" / "raw", root / "raw") for end in ("", ".gz")]
    return next((path for path in places if path.is_file()), None)


def _pair(images: Path, labels: Path, doing: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = _idx(images, 3, doing), _idx(labels, 1, doing).astype(np.int64)
    if len(x) != len(y) or not len(x):
        raise DataError(
            doing, where=str(labels), received=f"{len(y)} labels for {len(x)} images", todo="fetch both files again"
        )
    return x, y


def _idx(path: Path, dimensions: int, doing: str) -> np.ndarray:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            doing, where=str(path), received=f"a file that cannot be unpacked: {error}", todo="fetch it again"
        ) from error
    head = 4 + 4 * dimensions
    if len(raw) < head or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(
            doing,
            where=str(path),
            received=f"a file that begins with {raw[:4]!r}; an idx file of {dimensions} dimensions of bytes was wanted",
            todo="check which file it is",
        )
    shape = struct.unpack(f">{dimensions}I", raw[4:head])
    if len(raw) - head != int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            doing,
            where=str(path),
            received=f"{len(raw) - head:,} values; its head says {' × '.join(map(str, shape))}",
            todo="fetch it again: it is cut short",
        )
    return np.frombuffer(bytearray(raw), dtype=np.uint8, offset=head).reshape(shape)


DATA.register("mnist", DataEntry(load, "mnist:DIR"))
