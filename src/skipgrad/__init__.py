"""skipgrad: find every skip connection in a PyTorch model, measure the gradient through it, diagnose, cure.

Names are loaded when they are first used, so that ``import skipgrad`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skipgrad._version import __version__

if TYPE_CHECKING:
    from skipgrad.core.errors import SkipgradError
    from skipgrad.core.graph import SkipGraph
    from skipgrad.core.run import Finding, Measurements, Run
    from skipgrad.core.spectrum import PathSpectrum
    from skipgrad.diagnosis import diagnose
    from skipgrad.finder import Rules, find
    from skipgrad.ledger import Ledger, watch
    from skipgrad.probes.spectrum import path_spectrum
    from skipgrad.remedies import remedy
    from skipgrad.store import read_run

_HOMES = {
    "Finding": "skipgrad.core.run",
    "Ledger": "skipgrad.ledger",
    "Measurements": "skipgrad.core.run",
    "PathSpectrum": "skipgrad.core.spectrum",
    "Rules": "skipgrad.finder",
    "Run": "skipgrad.core.run",
    "SkipGraph": "skipgrad.core.graph",
    "SkipgradError": "skipgrad.core.errors",
    "diagnose": "skipgrad.diagnosis",
    "find": "skipgrad.finder",
    "path_spectrum": "skipgrad.probes.spectrum",
    "read_run": "skipgrad.store",
    "remedy": "skipgrad.remedies",
    "watch": "skipgrad.ledger",
}

__all__ = [
    "Finding",
    "Ledger",
    "Measurements",
    "PathSpectrum",
    "Rules",
    "Run",
    "SkipGraph",
    "SkipgradError",
    "__version__",
    "diagnose",
    "find",
    "path_spectrum",
    "read_run",
    "remedy",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skipgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
