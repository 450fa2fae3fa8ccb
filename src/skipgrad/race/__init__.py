"""A patient and its cures under equal budgets: the race, the verdict seed by seed."""

from skipgrad.race.budget import RATE_FACTORS, SEEDS, rates_around, seeds_from, steps_of
from skipgrad.race.chance import constant_loss
from skipgrad.race.compare import SeedVerdict, compare, judge_seeds
from skipgrad.race.prepare import find_skips, measure_once, prepare_with
from skipgrad.race.race import Dropped, Event, Finished, Noted, Started, Stepped, race
from skipgrad.race.record import COMMIT_EVERY, Progress, RaceRecord, run_file, versions
from skipgrad.race.results import RaceResult
from skipgrad.race.smooth import best_smoothed, final_loss, first_at, noise, score, smoothed, trains, window
from skipgrad.race.verdicts import verdicts

__all__ = [
    "COMMIT_EVERY",
    "RATE_FACTORS",
    "SEEDS",
    "Dropped",
    "Event",
    "Finished",
    "Noted",
    "Progress",
    "RaceRecord",
    "RaceResult",
    "SeedVerdict",
    "Started",
    "Stepped",
    "best_smoothed",
    "compare",
    "constant_loss",
    "final_loss",
    "find_skips",
    "first_at",
    "judge_seeds",
    "measure_once",
    "noise",
    "prepare_with",
    "race",
    "rates_around",
    "run_file",
    "score",
    "seeds_from",
    "smoothed",
    "steps_of",
    "trains",
    "verdicts",
    "versions",
    "window",
]
