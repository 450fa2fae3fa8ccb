"""The tables of a run file, and how one is told from any other file."""

from __future__ import annotations

import sqlite3
import struct
from dataclasses import fields
from pathlib import Path

from skipgrad.core import LayerRow, RunFileError, SkipRow

SCHEMA = 1
APPLICATION_ID = 0x534B4752  # "SKGR", at byte 68 of the file: what `file` and SQLite tell run files by
MAGIC = b"SQLite format 3\x00"

SKIP_COLUMNS = tuple(f.name for f in fields(SkipRow))
LAYER_COLUMNS = tuple(f.name for f in fields(LayerRow))

# Rows are only ever added: the rowid is the order of writing, and a later record supersedes an earlier one of its key.
# No column has a uniqueness rule, because a resumed run writes the steps since its last checkpoint a second time.
TABLES = (
    "CREATE TABLE meta (key TEXT NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE graphs (trial INTEGER, graph TEXT NOT NULL)",
    "CREATE TABLE trials (id INTEGER NOT NULL, trial TEXT NOT NULL)",
    "CREATE TABLE losses (trial INTEGER NOT NULL, step INTEGER NOT NULL, loss REAL, seconds REAL)",
    "CREATE TABLE skip_rows (trial INTEGER NOT NULL, step INTEGER NOT NULL, micro INTEGER NOT NULL, skip TEXT NOT NULL,"
    " skip_norm REAL, branch_norm REAL, total_norm REAL, out_norm REAL, cosine REAL, gain REAL, x_rms REAL,"
    " branch_rms REAL, residual REAL, finite INTEGER NOT NULL)",
    "CREATE TABLE layer_rows (trial INTEGER NOT NULL, step INTEGER NOT NULL, layer TEXT NOT NULL,"
    " depth INTEGER NOT NULL, out_grad_norm REAL, weight_norm REAL, weight_grad_norm REAL, update_norm REAL,"
    " stalled REAL, zero_grad REAL, weights INTEGER NOT NULL, dtype TEXT NOT NULL, finite INTEGER NOT NULL)",
    "CREATE TABLE findings (code TEXT NOT NULL, finding TEXT NOT NULL)",
    "CREATE TABLE cures (remedy TEXT NOT NULL, cure TEXT NOT NULL)",
    "CREATE TABLE notes (note TEXT NOT NULL)",
)


def insert(table: str, columns: tuple[str, ...]) -> str:
    """The INSERT statement of a table's columns."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def look_at(path: Path, doing: str) -> None:
    """Tells a file that cannot be a run file by its first bytes, before SQLite sees it.

    Raises:
        RunFileError: a missing file, a folder, an empty, foreign or truncated file.
    """
    if not path.exists():
        raise RunFileError(
            doing,
            where=str(path),
            received="no such file",
            todo="check the path; `skipgrad check` prints where it writes its run file",
        )
    if path.is_dir():
        inside = sorted(path.glob("*.db")) + sorted(path.glob("*.sqlite"))
        hint = f"pass the run file itself, perhaps {inside[0]}" if inside else "pass the run file inside it"
        raise RunFileError(doing, where=str(path), received="a folder", todo=hint)
    try:
        with path.open("rb") as file:
            head = file.read(100)
        size = path.stat().st_size
    except OSError as error:
        raise RunFileError(
            doing, where=str(path), received=f"{type(error).__name__}: {error.strerror}", todo="make the file readable"
        ) from error
    wal = path.with_name(path.name + "-wal")
    has_wal = wal.exists() and wal.stat().st_size > 0
    if not head and not has_wal:
        raise RunFileError(
            doing,
            where=str(path),
            received="an empty file",
            todo="the run ended before it wrote anything; run it again",
        )
    if head and not head.startswith(MAGIC):
        raise RunFileError(
            doing,
            where=str(path),
            received=f"not a SQLite file (it begins with {head[:12]!r})",
            todo="pass a file that `skipgrad check` or `sg.watch(…, run=PATH)` wrote",
        )
    if head and not has_wal:
        # Pages the header promises and the file lacks. With a log beside it the main file may rightly lag behind.
        page = struct.unpack(">H", head[16:18])[0] if len(head) == 100 else 0
        pages = struct.unpack(">I", head[28:32])[0] if len(head) == 100 else 1
        promised = pages * (65536 if page == 1 else page)
        if len(head) < 100 or size < promised:
            raise RunFileError(
                doing,
                where=str(path),
                received=f"a truncated file: {size:,} bytes of {max(promised, 100):,}",
                todo="copy it again from where it was made; the rest is not in this file",
            )


def recognise(connection: sqlite3.Connection, path: Path, doing: str) -> None:
    """Tells a run file from another SQLite file, and this schema from a newer one.

    Raises:
        RunFileError: an SQLite file of another application, or a newer schema.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise RunFileError(
            doing,
            where=str(path),
            received=f"a SQLite file of another application (id {application:#x}, a run file has {APPLICATION_ID:#x})",
            todo="pass a file that `skipgrad check` or `sg.watch(…, run=PATH)` wrote",
        )
    if version > SCHEMA:
        raise RunFileError(
            doing,
            where=str(path),
            received=f"schema {version}; this skipgrad knows schemas up to {SCHEMA}",
            todo="upgrade skipgrad to the version that wrote it (or newer)",
        )
    if version < 1:
        raise damaged(path, doing, f"schema {version}, which was never written")


def damaged(path: Path, doing: str, what: object) -> RunFileError:
    """The error for a file whose content does not read back."""
    return RunFileError(
        doing,
        where=str(path),
        received=f"a damaged file ({what})",
        todo="copy it again from where it was made; `sqlite3 FILE .recover` may save part of it",
    )
