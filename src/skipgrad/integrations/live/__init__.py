"""A run while it is made: `tail.py` reads what another process writes, `view.py` shows it. Imports no torch."""

from skipgrad.integrations.live.tail import Frame, RunTail
from skipgrad.integrations.live.view import Pace, view

__all__ = ["Frame", "Pace", "RunTail", "view"]
