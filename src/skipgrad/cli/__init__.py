"""The command line: one verb a file, no logic."""

from __future__ import annotations

from skipgrad.cli._main import main

__all__ = ["main"]
