"""From a reference to data to their source."""

from __future__ import annotations

from skipgrad.core import BadInput, UnknownName, nearest
from skipgrad.models.data import own
from skipgrad.models.data.registry import DATA
from skipgrad.models.data.source import DataSource


def resolve_data(ref: str) -> DataSource:
    """Resolves a reference to data and loads them, or what is needed to load them sample by sample.

    Args:
        ref: a name of `DATA` (``digits``), with a folder where it has one (``cifar10:DIR``),
            ``package.module:callable`` or ``file.py:callable`` returning a Dataset or DataLoader.

    Raises:
        UnknownName: no such data, module or callable; with the nearest names.
        BadInput: a folder is missing from the reference, or one too many.
        DataError: they cannot be loaded.
        MissingExtra: a library is not installed.
    """
    doing = f"resolving the data {ref!r}"
    prefix, colon, rest = ref.partition(":")
    if prefix in DATA:
        entry = DATA.get(prefix)
        if not entry.folder:
            if colon and rest and entry.optional:
                return entry.load(ref, rest)
            if colon and rest:
                raise BadInput(doing, received=f"{prefix} with {rest!r}", todo=f"write {prefix} alone")
            if not colon:
                return entry.load(ref)
        elif rest:
            return entry.load(ref, rest)
        else:
            what = "file" if entry.example.endswith("FILE") else "folder"
            raise BadInput(doing, received=f"no {what}", todo=f"write {prefix}:path/to/{what}")
    if not colon or not prefix or not rest:
        todo = "; ".join((nearest(ref.strip(":"), DATA.refs), *DATA.notes))
        raise UnknownName(doing, received="no data of that name", todo=todo)
    return own.load(ref, tuple(DATA))
