"""Where rows are written to: tables here; TensorBoard, Weights & Biases and MLflow in modules of their own."""

from skipgrad.integrations.writers.base import RowWriter
from skipgrad.integrations.writers.tables import CsvWriter, ParquetWriter

__all__ = ["CsvWriter", "ParquetWriter", "RowWriter"]
