"""One-off measurements of a model on a batch: the gradient by path length, drift, each layer's gradient by formula."""

from skipgrad.probes.drift import Drift
from skipgrad.probes.spectrum import path_spectrum
from skipgrad.probes.table import gradient_table

__all__ = ["Drift", "gradient_table", "path_spectrum"]
