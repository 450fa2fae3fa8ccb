"""The run file: one SQLite file that holds everything a run measured, tried and found. Imports no torch."""

from skipgrad.store.latest import Latest, read_latest
from skipgrad.store.reader import read_run
from skipgrad.store.writer import RunWriter

__all__ = ["Latest", "RunWriter", "read_latest", "read_run"]
