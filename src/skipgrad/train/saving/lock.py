"""One process a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skipgrad.core.errors import BadInput

try:
    import fcntl
except ImportError:  # Windows: a file that is there tells as much, but stays after a kill
    fcntl = None

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else trains into the folder meanwhile; a killed process' lock is gone with it.

    Raises:
        BadInput: somebody does.
    """
    path = folder / LOCK
    with path.open("a+") as file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            who = file.read().strip()
            raise BadInput(
                "training into a folder",
                where=str(folder),
                received="another process" + (f" (number {who})" if who else "") + " trains into it",
                todo="wait for it, or give another --out",
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
