"""Data by reference, one file a source."""

from typing import TYPE_CHECKING

from skipgrad._lazy import handed_on
from skipgrad.models.data.registry import DATA, DataEntry

if TYPE_CHECKING:
    from skipgrad.models.data.resolve import resolve_data
    from skipgrad.models.data.source import DataSource

__all__ = ["DATA", "DataEntry", "DataSource", "resolve_data"]

# The command line knows the names of the data without importing torch.
__getattr__, __dir__ = handed_on(
    __name__, {"resolve_data": "skipgrad.models.data.resolve", "DataSource": "skipgrad.models.data.source"}
)
