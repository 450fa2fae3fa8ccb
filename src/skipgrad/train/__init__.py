"""Training: one trial under a recipe."""

from skipgrad.train.protocols import Observe, Prepare, Treatment, WorkloadLike
from skipgrad.train.results import TrialResult
from skipgrad.train.settings import Settings
from skipgrad.train.settle import settle
from skipgrad.train.trial import train_trial

__all__ = [
    "Observe",
    "Prepare",
    "Settings",
    "Treatment",
    "TrialResult",
    "WorkloadLike",
    "settle",
    "train_trial",
]
