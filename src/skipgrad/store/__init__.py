"""The run file: one SQLite file that holds everything a run measured, tried and found. Imports no torch."""

from skipgrad.store.reader import read_run
from skipgrad.store.writer import RunWriter

__all__ = ["RunWriter", "read_run"]
