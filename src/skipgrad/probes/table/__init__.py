"""The gradient table: dL/dx of each layer by autograd, by its formula and by the popular formula."""

from skipgrad.probes.table.build import gradient_table
from skipgrad.probes.table.records import GradientRow, Term
from skipgrad.probes.table.residual import Residual
from skipgrad.probes.table.table import GradientTable

__all__ = ["GradientRow", "GradientTable", "Residual", "Term", "gradient_table"]
