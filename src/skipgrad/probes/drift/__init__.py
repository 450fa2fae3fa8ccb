"""How far do weights and representations drift while a net trains? `Drift` takes them down, and reads them again."""

from skipgrad.core.drift import DriftReading, RepresentationDrift, WeightDrift
from skipgrad.probes.drift.measure import Drift

__all__ = ["Drift", "DriftReading", "RepresentationDrift", "WeightDrift"]
