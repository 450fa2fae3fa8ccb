"""Which remedies make this model train faster: raced against the tuned baseline, measured, ranked."""

from skipgrad.boost.boost import boost
from skipgrad.boost.job import boost_job
from skipgrad.boost.judge import Contestant
from skipgrad.boost.options import BoostOptions
from skipgrad.boost.outcome import BoostResult
from skipgrad.boost.target import Target

__all__ = ["BoostOptions", "BoostResult", "Contestant", "Target", "boost", "boost_job"]
