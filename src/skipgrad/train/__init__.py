"""Training: one trial under a recipe."""

from skipgrad.train.device import device_of
from skipgrad.train.protocols import Observe, Prepare, Treatment, WorkloadLike
from skipgrad.train.results import TrialResult
from skipgrad.train.settle import settle
from skipgrad.train.trial import train_trial

__all__ = [
    "Observe",
    "Prepare",
    "Treatment",
    "TrialResult",
    "WorkloadLike",
    "device_of",
    "settle",
    "train_trial",
]
