"""The gradient table: dL/dx of each layer by autograd, by its formula and by the popular formula."""

from skipgrad.lab.table.build import gradient_table
from skipgrad.lab.table.records import GradientRow, GradientTable, Term
from skipgrad.lab.table.residual import Residual

__all__ = ["GradientRow", "GradientTable", "Residual", "Term", "gradient_table"]
