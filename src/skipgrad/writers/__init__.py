"""Where rows are written to: tables here; TensorBoard, Weights & Biases and MLflow in modules of their own."""

from skipgrad.writers.base import RowWriter
from skipgrad.writers.tables import CsvWriter, ParquetWriter

__all__ = ["CsvWriter", "ParquetWriter", "RowWriter"]
