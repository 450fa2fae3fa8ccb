"""The run file: one SQLite file that holds everything a run measured, tried and found. Imports no torch."""

from skipgrad.store.folder import REPORT, RUN, drop_empty, make_folder, set_aside
from skipgrad.store.latest import Latest, read_latest
from skipgrad.store.reader import read_run
from skipgrad.store.writer import RunWriter

__all__ = [
    "REPORT",
    "RUN",
    "Latest",
    "RunWriter",
    "drop_empty",
    "make_folder",
    "read_latest",
    "read_run",
    "set_aside",
]
