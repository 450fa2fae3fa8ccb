"""The main job: `check` a model on data – train a little, measure, diagnose, try the cures, report."""

from skipgrad.check.check import check
from skipgrad.check.options import CheckOptions, CheckResult

__all__ = ["CheckOptions", "CheckResult", "check"]
