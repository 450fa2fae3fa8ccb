"""Diagnosis: what the measurements of a training run say is wrong, in numbers. Imports no torch."""

from skipgrad.diagnosis._check import Check
from skipgrad.diagnosis._diagnose import diagnose, explain, worst
from skipgrad.diagnosis._profile import Profile, profile
from skipgrad.diagnosis.checks import CHECKS

__all__ = ["CHECKS", "Check", "Profile", "diagnose", "explain", "profile", "worst"]
