"""A run while it is made: `tail.py` reads what another process writes, `view.py` shows it. Imports no torch."""

from skipgrad.report.live.tail import Frame, RunTail
from skipgrad.report.live.view import Pace, view

__all__ = ["Frame", "Pace", "RunTail", "view"]
