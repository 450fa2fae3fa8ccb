"""``imagefolder:DIR``: images in one folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skipgrad.core import DataError
from skipgrad.core.extras import wanted
from skipgrad.models.data.files import folder_of
from skipgrad.models.data.pictures import Pictures, classified
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


def load(ref: str, where: str) -> DataSource:
    """RGB images (n, 3, S, S) float32, decoded when a batch needs them, standardised by channel.

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
    kept = None if held is None else _pictures(_listed_as(held, classes, doing), doing)
    return classified(ref, _pictures(files, doing), kept, classes)


def _pictures(files: list[tuple[Path, int]], doing: str) -> Pictures:
    return Pictures(
        [label for _, label in files],
        lambda i: _size(files[i][0], doing),
        lambda i, size: _pixels(files[i][0], size, doing),
    )


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
