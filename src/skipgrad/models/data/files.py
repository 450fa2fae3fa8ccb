"""What readers of folders and files say when there is nothing to read."""

from __future__ import annotations

from pathlib import Path

from skipgrad.core import DataError


def folder_of(ref: str, where: str) -> Path:
    """The folder that a reference names.

    Raises:
        DataError: there is none.
    """
    folder = Path(where).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"loading the data {ref!r}", where=str(folder), received="no such folder", todo="check the path"
        )
    return folder


def file_of(ref: str, where: str) -> Path:
    """The file that a reference names.

    Raises:
        DataError: there is none.
    """
    path = Path(where).expanduser()
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise DataError(f"loading the data {ref!r}", where=str(path), received=what, todo="check the path")
    return path


def none_there(doing: str, folder: Path, wanted: str) -> DataError:
    """The error for a folder without the files that were wanted."""
    return DataError(
        doing, where=str(folder), received=f"no file {wanted}", todo="check the path, or unpack the archive there"
    )
