"""From a reference to data to their source."""

from __future__ import annotations

from skipgrad.core import BadInput, UnknownName, nearest
from skipgrad.models.data import cifar, digits, folder, own, shapes, text
from skipgrad.models.data.source import DataSource

BUILT_IN = {"digits": digits.load, "shapes": shapes.load, "text": text.load}
FOLDERS = {"cifar10": cifar.load, "imagefolder": folder.load}


def resolve_data(ref: str) -> DataSource:
    """Resolves a reference to data and loads them, or what is needed to load them sample by sample.

    Args:
        ref: ``digits``, ``shapes``, ``text``, ``cifar10:DIR``, ``imagefolder:DIR``, ``package.module:callable`` or
            ``file.py:callable`` returning a Dataset or DataLoader.

    Raises:
        UnknownName: no such data, module or callable; with the nearest names.
        BadInput: a folder is missing from the reference.
        DataError: they cannot be loaded.
        MissingExtra: a library is not installed.
    """
    if ref in BUILT_IN:
        return BUILT_IN[ref](ref)
    prefix, colon, rest = ref.partition(":")
    if prefix in FOLDERS:
        if not rest:
            raise BadInput(f"resolving the data {ref!r}", received="no folder", todo=f"write {prefix}:path/to/folder")
        return FOLDERS[prefix](ref, rest)
    known = [*BUILT_IN, *FOLDERS]
    if not colon or not prefix or not rest:
        todo = nearest(ref.strip(":"), [*BUILT_IN, *(f"{name}:DIR" for name in FOLDERS)])
        raise UnknownName(f"resolving the data {ref!r}", received="no data of that name", todo=todo)
    if prefix in BUILT_IN:
        raise BadInput(f"resolving the data {ref!r}", received=f"{prefix} with {rest!r}", todo=f"write {prefix} alone")
    return own.load(ref, tuple(known))
