"""Remedies: reversible edits of a model or of its backward pass. Plan, apply, verify, undo."""

from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.looks import changes
from skipgrad.remedies.plan import Applied, Plan, Remedy
from skipgrad.remedies.records import Checked, Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES, remedy
from skipgrad.remedies.skip_calibration import calibrate
from skipgrad.remedies.treat import treat

__all__ = [
    "REMEDIES",
    "Applied",
    "Checked",
    "Edit",
    "Evidence",
    "Left",
    "Plan",
    "Remedy",
    "Verification",
    "calibrate",
    "changes",
    "remedy",
    "treat",
]
