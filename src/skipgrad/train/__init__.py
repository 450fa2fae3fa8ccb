"""Training under equal budgets: one trial, a race of a patient and its cures, and the verdict."""

from skipgrad.train.compare import SeedVerdict, compare, judge_seeds
from skipgrad.train.prepare import find_skips, measure_once, prepare_with
from skipgrad.train.protocols import Observe, Prepare, Treatment, WorkloadLike
from skipgrad.train.race import Dropped, Event, Finished, Noted, Started, Stepped, race
from skipgrad.train.results import RaceResult, TrialResult
from skipgrad.train.settings import Settings
from skipgrad.train.settle import settle
from skipgrad.train.smooth import best_smoothed, final_loss, smoothed, window
from skipgrad.train.trial import train_trial
from skipgrad.train.untouched import untouched
from skipgrad.train.verdicts import verdicts

__all__ = [
    "Dropped",
    "Event",
    "Finished",
    "Noted",
    "Observe",
    "Prepare",
    "RaceResult",
    "SeedVerdict",
    "Settings",
    "Started",
    "Stepped",
    "Treatment",
    "TrialResult",
    "WorkloadLike",
    "best_smoothed",
    "compare",
    "final_loss",
    "find_skips",
    "judge_seeds",
    "measure_once",
    "prepare_with",
    "race",
    "settle",
    "smoothed",
    "train_trial",
    "untouched",
    "verdicts",
    "window",
]
