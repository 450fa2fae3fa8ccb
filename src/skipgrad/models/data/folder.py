"""``imagefolder:DIR``: images in one folder per class."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.core.extras import wanted
from skipgrad.models.data.files import folder_of
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
_LARGEST = 224
_LOOKED_AT = 64


def load(ref: str, where: str) -> DataSource:
    """RGB images (n, 3, S, S) float32, decoded when a batch needs them, standardised by channel.

    S is the side that most images share, else their median side (at most 224); the fit may choose another.
    Classes are the folders with images in them, in order of name. A folder with ``train`` and ``val`` (or ``test``) in
    it is read as ImageNet's: the second is kept for evaluation.

    Raises:
        DataError: no such folder, no class folders, no images, or a file that cannot be decoded.
        MissingExtra: Pillow is not installed.
    """
    doing, root = f"loading the data {ref!r}", folder_of(ref, where)
    held = next((root / name for name in ("val", "test") if (root / "train").is_dir() and (root / name).is_dir()), None)
    if held is not None:
        root = root / "train"
    files, classes = _listed(root)
    if len(classes) < 2:
        raise DataError(
            doing,
            where=str(root),
            received=f"{len(classes)} folders with images in them",
            todo="put the images of each class into a folder of its own: DIR/cat/1.png, DIR/dog/1.png",
        )
    picks = [files[i][0] for i in np.linspace(0, len(files) - 1, min(_LOOKED_AT, len(files))).astype(int)]
    picks = _decodable(picks, doing)
    sizes = [_size(path, doing) for path in picks]
    common, count = Counter(sizes).most_common(1)[0]
    same = count == len(sizes) and common[0] == common[1]
    side = common[0] if same else int(min(_LARGEST, statistics.median(min(size) for size in sizes)))
    pixels = np.stack([_pixels(path, 32, doing) for path in picks]).astype(np.float32)
    mean = torch.from_numpy(pixels.mean((0, 1, 2)))[:, None, None]
    std = torch.from_numpy(pixels.std((0, 1, 2))).clamp_min(1e-3)[:, None, None]
    notes = (
        () if same else (f"images of different sizes are scaled to {side}×{side} pixels, whatever their proportions",)
    )

    def at(size: int) -> DataSource:
        test = None if held is None else part(_listed_as(held, classes, doing), size, "kept for evaluation")
        return replace(part(files, size), notes=notes, resize=at, test=test)

    def part(files: list[tuple[Path, int]], size: int, what: str = "") -> DataSource:
        def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
            raw = np.stack([_pixels(files[i][0], size, doing) for i in indices])
            x = torch.from_numpy(raw).permute(0, 3, 1, 2).float()
            return ((x - mean) / std).contiguous(), torch.tensor([files[i][1] for i in indices])

        names = f"{', '.join(classes[:5])}{' …' * (len(classes) > 5)}"
        about = f"{len(files):,} images{' ' * bool(what)}{what} in {len(classes)} classes ({names})"
        return DataSource(ref, "classification", len(files), gather, (3, size, size), len(classes), about)

    return at(side)


def _decodable(paths: list[Path], doing: str) -> list[Path]:
    """Those that can be read; the others are told when a batch needs them, or left out by whoever asks for that.

    Raises:
        DataError: none can.
    """
    good: list[Path] = []
    error: DataError | None = None
    for path in paths:
        try:
            _pixels(path, 1, doing)
            good.append(path)
        except DataError as bad:
            error = bad
    if not good and error is not None:
        raise error
    return good


def _listed(root: Path) -> tuple[list[tuple[Path, int]], list[str]]:
    """The images of each class folder, and the classes."""
    classes: list[str] = []
    files: list[tuple[Path, int]] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        if found:
            files += [(path, len(classes)) for path in found]
            classes.append(folder.name)
    return files, classes


def _listed_as(root: Path, classes: list[str], doing: str) -> list[tuple[Path, int]]:
    """The images of a second folder, numbered by the classes of the first."""
    files, names = _listed(root)
    other = [name for name in names if name not in classes]
    if other or not files:
        raise DataError(
            doing,
            where=str(root),
            received=f"the class {other[0]!r}, which train has not" if other else "no images",
            todo="give both the same folders of classes",
        )
    return [(path, classes.index(names[k])) for path, k in files]


def _open(path: Path, doing: str) -> Any:
    with wanted("models", f"{doing} (Pillow opens the images)"):
        from PIL import Image
    try:
        return Image.open(path)
    except Exception as error:
        raise DataError(
            doing,
            where=str(path),
            received=f"{type(error).__name__}: {error}",
            todo="remove the file, or leave such out (skipgrad train … --skip-bad); it is no image Pillow can read",
        ) from error


def _size(path: Path, doing: str) -> tuple[int, int]:
    with _open(path, doing) as image:
        return image.size


def _pixels(path: Path, size: int, doing: str) -> np.ndarray:
    """(size, size, 3) uint8."""
    opened = _open(path, doing)
    try:
        with opened:
            image = opened.convert("RGB")
            return np.asarray(image if image.size == (size, size) else image.resize((size, size), resample=2))
    except Exception as error:
        raise DataError(
            doing,
            where=str(path),
            received=f"{type(error).__name__}: {error}",
            todo="remove the file, or leave such out (skipgrad train … --skip-bad); it is cut short or damaged",
        ) from error


DATA.register("imagefolder", DataEntry(load, "imagefolder:DIR", extra="models", package="pillow"))
