"""The checks, one a file. Importing this registers them."""

from skipgrad.diagnosis._check import CHECKS
from skipgrad.diagnosis.checks import (
    sg001_vanishing_gradient,
    sg002_exploding_gradient,
    sg003_stalled_updates,
    sg004_deep_and_skipless,
    sg005_idle_branch,
    sg006_drowned_skip,
    sg007_unclean_shortcut,
    sg008_unscaled_long_skips,
    sg009_growing_stream,
    sg010_non_finite,
    sg011_path_length,
)

__all__ = [
    "CHECKS",
    "sg001_vanishing_gradient",
    "sg002_exploding_gradient",
    "sg003_stalled_updates",
    "sg004_deep_and_skipless",
    "sg005_idle_branch",
    "sg006_drowned_skip",
    "sg007_unclean_shortcut",
    "sg008_unscaled_long_skips",
    "sg009_growing_stream",
    "sg010_non_finite",
    "sg011_path_length",
]
