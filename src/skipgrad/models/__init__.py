"""References to models and data, and the fit of one to the other."""

from typing import TYPE_CHECKING

from skipgrad._lazy import handed_on
from skipgrad.models.data.registry import DATA, DataEntry
from skipgrad.models.libraries.registry import LIBRARIES, Library

if TYPE_CHECKING:
    from skipgrad.models.data.resolve import resolve_data
    from skipgrad.models.data.source import DataSource
    from skipgrad.models.fitting import fit
    from skipgrad.models.output import main_output
    from skipgrad.models.resolve import resolve_model
    from skipgrad.models.rules import resolve_rules
    from skipgrad.models.source import ModelSource
    from skipgrad.models.workload import Batch, Workload

__all__ = [
    "DATA",
    "LIBRARIES",
    "Batch",
    "DataEntry",
    "DataSource",
    "Library",
    "ModelSource",
    "Workload",
    "fit",
    "main_output",
    "resolve_data",
    "resolve_model",
    "resolve_rules",
]

# The command line knows the names of data and libraries without importing torch.
__getattr__, __dir__ = handed_on(
    __name__,
    {
        "Batch": "skipgrad.models.workload",
        "DataSource": "skipgrad.models.data.source",
        "ModelSource": "skipgrad.models.source",
        "Workload": "skipgrad.models.workload",
        "fit": "skipgrad.models.fitting",
        "main_output": "skipgrad.models.output",
        "resolve_data": "skipgrad.models.data.resolve",
        "resolve_model": "skipgrad.models.resolve",
        "resolve_rules": "skipgrad.models.rules",
    },
)
