"""The folder a check writes to: made before anything is trained, and never losing what an earlier check left in it."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path

from skipgrad.core import OutputError

RUN = "run.sqlite"
"""The name of a job's run file in its folder."""
REPORT = "report.html"
"""The name of its page."""


def make_folder(out: str | Path | None, model: str, data: str) -> Path:
    """Makes the folder for run file and report, and tries to write to it. Files of an earlier check are left alone.

    Raises:
        OutputError: it cannot be made or written to.
    """
    if out is None:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{Path(model).name}-{Path(data).name}").strip("-")
        out = Path("skipgrad-runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            "making the output folder",
            where=str(folder),
            received=error.strerror or str(error),
            todo="pass --out with a folder that can be written to",
        ) from error
    return folder


def set_aside(folder: Path) -> None:
    """Renames what an earlier check left in the folder, so that it is kept under a number."""
    if not (folder / RUN).exists():
        return
    number = 1
    while (folder / f"run.{number}.sqlite").exists() or (folder / f"report.{number}.html").exists():
        number += 1
    moves = [(REPORT, f"report.{number}.html")]
    # A killed run has its last commits in files beside it, which belong to it by name.
    moves += [(RUN + part, f"run.{number}.sqlite{part}") for part in ("-wal", "-shm", "")]
    for name, kept in moves:
        if (folder / name).exists():
            (folder / name).rename(folder / kept)


def drop_empty(folder: Path) -> None:
    """Removes a folder nothing was written to, and its parent when that is empty too."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()
