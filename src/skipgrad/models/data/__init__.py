"""Data by reference, one file a source."""

from skipgrad.models.data.resolve import resolve_data
from skipgrad.models.data.source import DataSource

__all__ = ["DataSource", "resolve_data"]
