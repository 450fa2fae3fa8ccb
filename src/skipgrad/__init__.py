"""skipgrad: find every skip connection in a PyTorch model, measure the gradient through it, diagnose, cure.

Names are loaded when they are first used, so that ``import skipgrad`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from skipgrad._lazy import handed_on
from skipgrad._version import __version__ as __version__

if TYPE_CHECKING:
    from skipgrad.core.errors import SkipgradError
    from skipgrad.core.graph import SkipGraph
    from skipgrad.core.run import Finding, Measurements, Run
    from skipgrad.core.spectrum import PathSpectrum
    from skipgrad.diagnosis import diagnose
    from skipgrad.finder import Rules, find
    from skipgrad.instrument.param_groups import param_groups
    from skipgrad.ledger import Ledger, watch
    from skipgrad.probes.spectrum import path_spectrum
    from skipgrad.remedies import remedy
    from skipgrad.store import read_run
    from skipgrad.train.aids import EMA as EMA
    from skipgrad.train.aids import Accumulate as Accumulate
    from skipgrad.train.aids import DropRates as DropRates
    from skipgrad.train.aids import ElasticNet as ElasticNet
    from skipgrad.train.aids import clip_adaptively as clip_adaptively
    from skipgrad.train.checkpointing import checkpointed as checkpointed

_HOMES = {
    "EMA": "skipgrad.train.aids",
    "Accumulate": "skipgrad.train.aids",
    "DropRates": "skipgrad.train.aids",
    "ElasticNet": "skipgrad.train.aids",
    "Finding": "skipgrad.core.run",
    "Ledger": "skipgrad.ledger",
    "Measurements": "skipgrad.core.run",
    "PathSpectrum": "skipgrad.core.spectrum",
    "Rules": "skipgrad.finder",
    "Run": "skipgrad.core.run",
    "SkipGraph": "skipgrad.core.graph",
    "SkipgradError": "skipgrad.core.errors",
    "checkpointed": "skipgrad.train.checkpointing",
    "clip_adaptively": "skipgrad.train.aids",
    "diagnose": "skipgrad.diagnosis",
    "find": "skipgrad.finder",
    "param_groups": "skipgrad.instrument.param_groups",
    "path_spectrum": "skipgrad.probes.spectrum",
    "read_run": "skipgrad.store",
    "remedy": "skipgrad.remedies",
    "watch": "skipgrad.ledger",
}

# What one needs to know first; the pieces for a loop of one's own are there as well, `sg.EMA`.
__all__ = [
    "Finding",
    "Ledger",
    "Measurements",
    "PathSpectrum",
    "Rules",
    "Run",
    "SkipGraph",
    "SkipgradError",
    "diagnose",
    "find",
    "param_groups",
    "path_spectrum",
    "read_run",
    "remedy",
    "watch",
]

__getattr__, __dir__ = handed_on(__name__, _HOMES)
