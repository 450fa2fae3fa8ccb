"""``text``: the Python standard library's own source, as bytes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.data.source import DataSource

CONTEXT, LIMIT, VOCABULARY = 64, 1 << 20, 256


def load(ref: str = "text", context: int = CONTEXT, limit: int = LIMIT) -> DataSource:
    """Windows of ``context`` bytes and, as target, the byte after each: ids (n, context) int64.

    Args:
        ref: the reference, for messages.
        context: bytes a sample.
        limit: bytes read, from the library's top-level modules in order of name.

    Raises:
        DataError: the library's source is not on this machine.
    """
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
    data = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)

    def gather(indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        windows = torch.stack([data[i : i + context + 1] for i in indices]).long()
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    version = ".".join(map(str, sys.version_info[:3]))
    about = f"{size:,} bytes of the source of Python {version}'s standard library, in windows of {context} bytes"
    return DataSource(ref, "language model", size - context, gather, (context,), VOCABULARY, about)


DATA.register("text", DataEntry(load, "text"))
