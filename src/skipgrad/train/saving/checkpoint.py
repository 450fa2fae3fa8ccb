"""The checkpoints of a folder: the newest and the one before."""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from torch import Tensor, uint8

from skipgrad.core.errors import BadInput, OutputError
from skipgrad.train.saving.files import put, write_tensors
from skipgrad.train.saving.pack import pack, unpack

CHECKPOINT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
FORMAT = 1
_WHAT = "skipgrad checkpoint"
DOING = "reading a checkpoint"


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read.

    Attributes:
        about: plain data: step, recipe, what it is of.
        state: the session's.
        path: where it was.
    """

    about: dict[str, Any]
    state: dict[str, Any]
    path: Path


class Checkpoints:
    """Writes and reads the checkpoints of one folder.

    A file is written beside its place and onto the disk, the last one becomes the previous one, then it is renamed: at
    every moment one of the two is whole. Its tensors have a checksum, and no pickle is read.
    """

    def __init__(self, folder: Path) -> None:
        self.path, self.previous = folder / CHECKPOINT, folder / PREVIOUS

    @property
    def exist(self) -> bool:
        """Whether there is one."""
        return self.path.exists() or self.previous.exists()

    def save(self, state: dict[str, Any], about: dict[str, Any]) -> None:
        """Writes a checkpoint.

        Raises:
            OutputError: it cannot be written; the last one is intact.
        """
        plain, tensors = pack(state)
        header = {
            "what": _WHAT,
            "format": str(FORMAT),
            "about": json.dumps(about),
            "state": json.dumps(plain),
            "sum": str(_sum(tensors)),
        }
        fresh = write_tensors(self.path, tensors, header, doing="saving a checkpoint")
        try:
            if self.path.exists():
                os.replace(self.path, self.previous)
            put(fresh, self.path)
        except OSError as error:
            raise OutputError(
                "saving a checkpoint", where=str(self.path), received=str(error), todo="make the folder writable"
            ) from error

    def read(self) -> Saved | None:
        """The newest checkpoint; None when there is none.

        Raises:
            BadInput: the file is cut short, damaged, another's, or of a newer version.
        """
        path = self.path if self.path.exists() else self.previous
        return self._read(path) if path.exists() else None

    def _read(self, path: Path) -> Saved:
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                if header.get("what") != _WHAT:
                    raise self._refused(path, "a safetensors file that is no checkpoint of skipgrad's")
                if int(header["format"]) > FORMAT:
                    raise self._refused(
                        path, f"format {header['format']}; this version reads up to {FORMAT}", "use a newer skipgrad"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            if str(_sum(tensors)) != header["sum"]:
                raise self._refused(path, "a damaged file: its tensors do not have the checksum in its header")
            state = unpack(json.loads(header["state"]), tensors)
            return Saved(json.loads(header["about"]), state, path)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise self._refused(path, f"a file that is cut short or damaged ({str(error).strip()})") from error

    def _refused(self, path: Path, received: str, todo: str = "") -> BadInput:
        other = self.previous if path == self.path and self.previous.exists() else None
        if not todo and other is not None:
            todo = f"remove it to go on from the one before, {other.name}, which is left as it is"
        return BadInput(
            DOING, where=str(path), received=received, todo=todo or "give another --out, or remove the file"
        )


def _sum(tensors: dict[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        total = zlib.crc32(name.encode(), total)
        flat = tensors[name].reshape(-1)
        if flat.numel():
            total = zlib.crc32(cast(Any, flat.view(uint8).numpy()), total)
    return total
