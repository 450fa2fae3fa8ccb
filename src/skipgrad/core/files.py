"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from skipgrad.core.errors import OutputError


def write_text(path: str | Path, text: str, *, doing: str) -> Path:
    """Writes a text, whole or not at all; makes its folder, replaces what was there.

    Args:
        path: where to. A link is followed; what is no file (``/dev/stdout``) is written to, never replaced.
        text: what to write, as UTF-8.
        doing: what it is for, in the words of an error: ``"writing the report"``.

    Returns:
        The path, as given.

    Raises:
        OutputError: the path cannot be written.
    """
    path = Path(path)
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            with target.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
            return path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:64]}")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            os.chmod(name, 0o644)  # mkstemp's are for the owner alone
            os.replace(name, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except BrokenPipeError:
        raise  # the reader went away: nobody's mistake
    except OSError as error:
        raise unwritable(path, error, doing=doing) from error
    return path


def unwritable(path: Path, error: OSError, *, doing: str) -> OutputError:
    """The error for a path that the system does not let one write to."""
    return OutputError(
        doing,
        where=str(path),
        received=f"{type(error).__name__}: {error.strerror}",
        todo="pass a path that can be written",
    )
