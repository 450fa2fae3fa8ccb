"""``hf:DIR``: a data set that Hugging Face's ``datasets`` has saved (``save_to_disk``)."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np

from skipgrad.core import DataError
from skipgrad.core.extras import wanted
from skipgrad.models.data.files import folder_of
from skipgrad.models.data.pictures import Pictures, classified
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource
from skipgrad.models.data.text import CONTEXT, windows

_HELD = ("validation", "val", "test")


def load(ref: str, where: str) -> DataSource:
    """Images with a class each (see `imagefolder`), or the bytes of a column of text.

    The first column of type ``Image`` and the first ``ClassLabel`` (else ``label``, ``labels``) make a classification.
    Without an image, the first column of strings is read as one text, a line a row. Of a ``DatasetDict`` ``train`` is
    trained on, and ``validation``, ``val`` or ``test`` kept for evaluation.

    Raises:
        DataError: the folder holds no saved data set, no such columns, or what cannot be read.
        MissingExtra: ``datasets`` is not installed.
    """
    doing, root = f"loading the data {ref!r}", folder_of(ref, where)
    with wanted("hf", f"{doing} (saved by Hugging Face's datasets)"):
        import datasets
    try:
        found: Any = datasets.load_from_disk(str(root))
    except Exception as error:
        raise DataError(
            doing,
            where=str(root),
            received=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            todo="give the folder that dataset.save_to_disk(DIR) wrote",
        ) from error
    held = None
    if isinstance(found, datasets.DatasetDict):
        if "train" not in found:
            raise DataError(
                doing,
                where=str(root),
                received=f"the parts {', '.join(map(str, found))}, none of them train",
                todo="give the folder of one part, DIR/PART",
            )
        held = next((found[name] for name in _HELD if name in found), None)
        found = found["train"]
    if not len(found):
        raise DataError(doing, where=str(root), received="no rows", todo="give data with rows")
    image = _column(found, datasets.Image)
    label = _column(found, datasets.ClassLabel) or next((c for c in ("label", "labels") if c in found.features), None)
    if image and label:
        return _images(ref, doing, found, held, image, label)
    text = next((c for c, f in found.features.items() if getattr(f, "dtype", "") in ("string", "large_string")), None)
    if text is None:
        raise DataError(
            doing,
            where=str(root),
            received=f"the columns {', '.join(f'{c} ({type(f).__name__})' for c, f in found.features.items())}",
            todo="give a column of type Image and one of classes, or one of strings; or write a callable of your own",
        )
    test = None if held is None else _text(ref, doing, held, text)
    return replace(_text(ref, doing, found, text), test=test)


def _column(data: Any, kind: type) -> str | None:
    return next((name for name, feature in data.features.items() if isinstance(feature, kind)), None)


def _images(ref: str, doing: str, train: Any, held: Any, image: str, label: str) -> DataSource:
    names = getattr(train.features[label], "names", None)
    many = [int(y) if y is not None else -1 for part in (train, held) if part is not None for y in part[label]]
    if min(many) < 0 or (names and max(many) >= len(names)):
        raise DataError(
            doing,
            where=f"the column {label}",
            received=f"the label {min(many) if min(many) < 0 else max(many)}",
            todo="number the classes from 0, and leave out rows without a class",
        )
    classes = names or [str(k) for k in range(max(many) + 1)]
    kept = None if held is None else _pictures(doing, held, image, label)
    return classified(ref, _pictures(doing, train, image, label), kept, classes)


def _pictures(doing: str, data: Any, image: str, label: str) -> Pictures:
    from datasets import Image

    raw = data.cast_column(image, Image(decode=False))

    def opened(i: int) -> Any:
        with wanted("models", f"{doing} (Pillow opens the images)"):
            import PIL.Image
        kept = raw[i][image]
        try:
            found = PIL.Image.open(io.BytesIO(kept["bytes"]) if kept["bytes"] is not None else kept["path"])
            found.load()
            return found
        except Exception as error:
            raise DataError(
                doing,
                where=f"row {i}",
                received=f"{type(error).__name__}: {error}",
                todo="remove the row, or leave such out (skipgrad train … --skip-bad)",
            ) from error

    def pixels(i: int, size: int) -> np.ndarray:
        found = opened(i).convert("RGB")
        return np.asarray(found if found.size == (size, size) else found.resize((size, size), resample=2))

    return Pictures([int(y) for y in data[label]], lambda i: opened(i).size, pixels)


def _text(ref: str, doing: str, data: Any, column: str) -> DataSource:
    raw = "\n".join(row or "" for row in data[column]).encode()
    if len(raw) <= CONTEXT:
        raise DataError(
            doing,
            where=f"the column {column}",
            received=f"{len(raw)} bytes, for windows of {CONTEXT} and the byte after",
            todo="give more text",
        )
    about = f"{len(raw):,} bytes of the column {column}, {len(data):,} rows, in windows of {CONTEXT} bytes"
    others = tuple(f"the column {c} is not used" for c in data.features if c != column)
    return replace(windows(ref, raw, about), notes=others)


DATA.register("hf", DataEntry(load, "hf:DIR", extra="hf", package="datasets"))
