"""Diagnosis: what the measurements of a training run say is wrong, in numbers. Imports no torch."""

from skipgrad.diagnosis._check import CHECKS, Check
from skipgrad.diagnosis._diagnose import diagnose, explain
from skipgrad.diagnosis._learning import Learning, learning
from skipgrad.diagnosis._order import prescriptions
from skipgrad.diagnosis._profile import Profile, profile

__all__ = ["CHECKS", "Check", "Learning", "Profile", "diagnose", "explain", "learning", "prescriptions", "profile"]
