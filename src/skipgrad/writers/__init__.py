"""Where rows are written to: tables here; TensorBoard, Weights & Biases and MLflow in modules of their own."""

from typing import TYPE_CHECKING

from skipgrad._lazy import handed_on
from skipgrad.writers.base import RowWriter
from skipgrad.writers.registry import WRITERS, WriterEntry

if TYPE_CHECKING:
    from skipgrad.writers.tables import CsvWriter, ParquetWriter

__all__ = ["WRITERS", "CsvWriter", "ParquetWriter", "RowWriter", "WriterEntry"]

# Polars takes a tenth of a second, which a training loop that writes no table need not pay.
__getattr__, __dir__ = handed_on(
    __name__, {"CsvWriter": "skipgrad.writers.tables", "ParquetWriter": "skipgrad.writers.tables"}
)
