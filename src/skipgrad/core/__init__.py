"""Records, errors, registry and units: what every layer shares. Imports no torch."""

from skipgrad.core.account import Account, Cost
from skipgrad.core.changes import ChangeRow
from skipgrad.core.clean import Unclean
from skipgrad.core.endings import Ending, ending
from skipgrad.core.errors import (
    BadInput,
    DataError,
    MeasureError,
    MissingExtra,
    ModelError,
    OutputError,
    RemedyRefused,
    RunFileError,
    SkipgradError,
    UnknownName,
)
from skipgrad.core.graph import Layer, Other, Skip, SkipGraph, Suggestion, Unknown
from skipgrad.core.recipe import Recipe
from skipgrad.core.registry import Registry, nearest
from skipgrad.core.run import Cure, Finding, LayerRow, LossPoint, Measurements, Run, SkipRow, SourceRow, Thinned, Trial
from skipgrad.core.sources import SourceShares, source_shares
from skipgrad.core.spectrum import PathRow, PathSpectrum

__all__ = [
    "Account",
    "BadInput",
    "ChangeRow",
    "Cost",
    "Cure",
    "DataError",
    "Ending",
    "Finding",
    "Layer",
    "LayerRow",
    "LossPoint",
    "MeasureError",
    "Measurements",
    "MissingExtra",
    "ModelError",
    "Other",
    "OutputError",
    "PathRow",
    "PathSpectrum",
    "Recipe",
    "Registry",
    "RemedyRefused",
    "Run",
    "RunFileError",
    "Skip",
    "SkipGraph",
    "SkipRow",
    "SkipgradError",
    "SourceRow",
    "SourceShares",
    "Suggestion",
    "Thinned",
    "Trial",
    "Unclean",
    "Unknown",
    "UnknownName",
    "ending",
    "nearest",
    "source_shares",
]
