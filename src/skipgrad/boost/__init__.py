"""Which remedies make this model train faster: raced, measured, ranked."""

from skipgrad.boost.boost import boost
from skipgrad.boost.job import BoostOptions, BoostResult, boost_job

__all__ = ["BoostOptions", "BoostResult", "boost", "boost_job"]
