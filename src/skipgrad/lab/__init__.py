"""Claims about skip connections as experiments, and the table of what each layer's gradient is."""

from skipgrad.lab.claim import Claim, Figure, Progress, Verdict
from skipgrad.lab.registry import CLAIMS, run_claim
from skipgrad.probes.table import GradientRow, GradientTable, Residual, gradient_table

__all__ = [
    "CLAIMS",
    "Claim",
    "Figure",
    "GradientRow",
    "GradientTable",
    "Progress",
    "Residual",
    "Verdict",
    "gradient_table",
    "run_claim",
]
