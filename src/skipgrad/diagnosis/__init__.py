"""Diagnosis: what the measurements of a training run say is wrong, in numbers. Imports no torch."""

from skipgrad.diagnosis._check import CHECKS, Check
from skipgrad.diagnosis._diagnose import diagnose, explain

__all__ = ["CHECKS", "Check", "diagnose", "explain"]
