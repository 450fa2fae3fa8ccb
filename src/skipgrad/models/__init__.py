"""References to models and data, and the fit of one to the other."""

from skipgrad.models.data import DataSource, resolve_data
from skipgrad.models.fitting import fit
from skipgrad.models.output import main_output
from skipgrad.models.resolve import resolve_model
from skipgrad.models.rules import resolve_rules
from skipgrad.models.source import ModelSource
from skipgrad.models.workload import Batch, Workload

__all__ = [
    "Batch",
    "DataSource",
    "ModelSource",
    "Workload",
    "fit",
    "main_output",
    "resolve_data",
    "resolve_model",
    "resolve_rules",
]
