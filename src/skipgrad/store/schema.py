"""The tables of a run file, and how one is told from any other file."""

from __future__ import annotations

import sqlite3
import struct
from dataclasses import fields
from pathlib import Path

from skipgrad.core import LayerRow, RunFileError, SkipRow

SCHEMA = 2
APPLICATION_ID = 0x534B4752  # "SKGR", at byte 68 of the file: what `file` and SQLite tell run files by
MAGIC = b"SQLite format 3\x00"

SKIP_COLUMNS = tuple(f.name for f in fields(SkipRow))
LAYER_COLUMNS = tuple(f.name for f in fields(LayerRow))
BLOCK_COLUMNS = ("trial", "step", "place", "kind", "why", "who", "finite", "missing", "figures")

# Why a block is there: the schedule keeps it; it is the newest step and goes when the next comes; it is the first step
# with a figure that is not finite; it is one row of a later such step, read also where the step itself is not.
KEPT, NEWEST, FIRST_BAD, WITNESS = range(4)

# Records are only ever added: the rowid is the order of writing, and a later record supersedes an earlier one of its
# key. No column has a uniqueness rule, because a resumed run writes the steps since its last checkpoint a second time.
# The one exception is the newest step, which gives way to the next where the schedule does not keep it.
_BLOCK_TABLES = (
    "CREATE TABLE schedules (trial INTEGER NOT NULL, dense INTEGER NOT NULL)",
    "CREATE TABLE subjects (kind TEXT NOT NULL, subject TEXT NOT NULL)",
    # The large cells last: what stands before them is read without them.
    "CREATE TABLE blocks (trial INTEGER NOT NULL, step INTEGER NOT NULL, place INTEGER NOT NULL, kind TEXT NOT NULL,"
    " why INTEGER NOT NULL, who BLOB NOT NULL, finite BLOB NOT NULL, missing BLOB, figures BLOB NOT NULL)",
    "CREATE INDEX blocks_step ON blocks (trial, step, place, kind, why)",
)
# The newest losses, and some of all the others, are found without a look at the rest.
_INDEX = "CREATE INDEX IF NOT EXISTS losses_step ON losses (trial, step)"
# Tables that files of schema 2 may lack: what wrote them did not measure it.
_PATHS = "CREATE TABLE IF NOT EXISTS paths (trial INTEGER NOT NULL, step INTEGER NOT NULL, row TEXT NOT NULL)"
_CHANGES = "CREATE TABLE IF NOT EXISTS changes (trial INTEGER NOT NULL, step INTEGER NOT NULL, row TEXT NOT NULL)"
TABLES = (
    "CREATE TABLE meta (key TEXT NOT NULL, value TEXT NOT NULL)",
    "CREATE TABLE graphs (trial INTEGER, graph TEXT NOT NULL)",
    "CREATE TABLE trials (id INTEGER NOT NULL, trial TEXT NOT NULL)",
    "CREATE TABLE losses (trial INTEGER NOT NULL, step INTEGER NOT NULL, loss REAL, seconds REAL)",
    _INDEX,
    *_BLOCK_TABLES,
    _PATHS,
    _CHANGES,
    "CREATE TABLE findings (code TEXT NOT NULL, finding TEXT NOT NULL)",
    "CREATE TABLE cures (remedy TEXT NOT NULL, cure TEXT NOT NULL)",
    "CREATE TABLE notes (note TEXT NOT NULL)",
)


def insert(table: str, columns: tuple[str, ...]) -> str:
    """The INSERT statement of a table's columns."""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def tables(connection: sqlite3.Connection) -> set[str]:
    """The names of a file's tables."""
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


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


def upgrade(connection: sqlite3.Connection) -> None:
    """Adds what a file of an earlier schema lacks, all or nothing; its rows stay where they are."""
    connection.execute(_INDEX)  # which a file of this schema may lack, too
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
        connection.execute(_PATHS)
        connection.execute(_CHANGES)
        return
    connection.execute("BEGIN IMMEDIATE")
    for statement in (*_BLOCK_TABLES, _PATHS, _CHANGES):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")
    connection.commit()
