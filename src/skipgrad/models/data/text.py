"""``text``: the Python standard library's own source, or a file of yours (``text:FILE``), as bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.files import file_of
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

CONTEXT, LIMIT, VOCABULARY = 64, 1 << 20, 256


def load(ref: str = "text", where: str = "", context: int = CONTEXT, limit: int = LIMIT) -> DataSource:
    """Windows of ``context`` bytes and, as target, the byte after each: ids (n, context) int64.

    Args:
        ref: the reference, for messages.
        where: a file; the standard library's source when empty.
        context: bytes a sample.
        limit: bytes read of the library, from its top-level modules in order of name. A file is read whole.

    Raises:
        DataError: the library's source is not on this machine; no such file, or one with less than a window.
    """
    if where:
        path = file_of(ref, where)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"loading the data {ref!r}", where=where, received=str(error.strerror), todo="make it readable"
            ) from error
        if len(raw) <= context:
            raise DataError(
                f"loading the data {ref!r}",
                where=where,
                received=f"{len(raw)} bytes, for windows of {context} and the byte after",
                todo="give a longer file",
            )
        about = f"{len(raw):,} bytes of {path.name}, in windows of {context} bytes"
        return windows(ref, raw, about, context)
    folder = Path(os.__file__).parent
    parts, size = [], 0
    for path in sorted(folder.glob("*.py")):
        if size >= limit:
            break
        parts.append(path.read_bytes()[: limit - size])
        size += len(parts[-1])
    if size <= context:
        raise DataError(
            f"loading the data {ref!r}",
            where=str(folder),
            received=f"{size} bytes of Python source",
            todo="use a Python whose standard library lies there as .py files, or give your own data",
        )
    version = ".".join(map(str, sys.version_info[:3]))
    about = f"{size:,} bytes of the source of Python {version}'s standard library, in windows of {context} bytes"
    return windows(ref, b"".join(parts), about, context)


def windows(ref: str, raw: bytes, about: str, context: int = CONTEXT) -> DataSource:
    """Each window of some bytes, and the byte after each of them."""
    data = torch.frombuffer(bytearray(raw), dtype=torch.uint8)

    def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        windows = torch.stack([data[i : i + context + 1] for i in indices]).long()
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    return DataSource(ref, "language model", len(raw) - context, gather, (context,), VOCABULARY, about)


DATA.register("text", DataEntry(load, "text", optional=True))
