"""Claims about skip connections as experiments, and the table of what each layer's gradient is."""

from skipgrad.lab.claim import Claim, Figure, Progress, Setting, Verdict
from skipgrad.lab.gallery import write_gallery
from skipgrad.lab.registry import CLAIMS
from skipgrad.lab.run import Subject, run_claim, run_together
from skipgrad.lab.store import Store
from skipgrad.probes.table import GradientRow, GradientTable, Residual, gradient_table
from skipgrad.race.spread import Processes, Ray, spread_of

__all__ = [
    "CLAIMS",
    "Claim",
    "Figure",
    "GradientRow",
    "GradientTable",
    "Processes",
    "Progress",
    "Ray",
    "Residual",
    "Setting",
    "Store",
    "Subject",
    "Verdict",
    "gradient_table",
    "run_claim",
    "run_together",
    "spread_of",
    "write_gallery",
]
