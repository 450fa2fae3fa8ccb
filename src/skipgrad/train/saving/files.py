"""Tensors written whole: beside the target, to the disk, then renamed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from skipgrad.core.errors import OutputError


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str], *, doing: str) -> Path:
    """Writes a safetensors file beside ``path`` and makes sure that it is on the disk; the caller renames it.

    Returns:
        The file written.

    Raises:
        OutputError: it cannot be written (a full disk); nothing is left of it, and ``path`` is as it was.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        save_file(tensors, fresh, metadata=header)
        os.chmod(fresh, 0o644)  # safetensors' are for the owner alone
        _to_disk(fresh)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            fresh.unlink()
        raise OutputError(
            doing,
            where=str(path),
            received=str(error).strip() or type(error).__name__,
            todo="make room and give the same command again: what was saved before is intact",
        ) from error
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
    return fresh


def put(fresh: Path, path: Path) -> None:
    """Gives a file that is on the disk its name."""
    os.replace(fresh, path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
