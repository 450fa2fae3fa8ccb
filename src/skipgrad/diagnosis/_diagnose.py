"""From a source of measurements to one finding per check."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from skipgrad import store
from skipgrad.core import BadInput, Finding, Measurements
from skipgrad.diagnosis._check import CHECKS
from skipgrad.diagnosis._coverage import coverage


def diagnose(source: Any, *, chance: float | None = None) -> tuple[Finding, ...]:
    """Says what is wrong with the gradient flow of a run.

    Args:
        source: a `Measurements`, anything with ``.measurements()`` (a ledger, a `Run`), or the path of a run file.
        chance: the loss of the best answer that is always the same (the entropy of the classes, the variance of the
            targets), where you know it: SG012 then sees a net that has learned nothing but that.

    Returns:
        One finding per registered check, in order of code, those of other packages last; look at ``state`` before
        ``severity``.

    Raises:
        BadInput: a source of another kind.
        RunFileError: a path that is no readable run file.

    >>> from skipgrad.core import Measurements, SkipGraph
    >>> sorted({f.state for f in diagnose(Measurements(SkipGraph(())))})
    ['not applicable', 'skipped']
    """
    measured = _measurements(source)
    if chance is not None:
        measured = replace(measured, chance=float(chance))
    seen = coverage(measured)
    return tuple(check(measured, seen) for _, check in CHECKS.items())


def explain(code: str) -> str:
    """What the check of this code sees and why it matters, in two or three sentences.

    Raises:
        UnknownName: no check has this code.
    """
    return CHECKS.get(code).explanation


def _measurements(source: Any) -> Measurements:
    if isinstance(source, (str, os.PathLike)):
        source = store.read_run(os.fspath(source))
    measured = source
    if not isinstance(source, Measurements) and callable(getattr(source, "measurements", None)):
        measured = source.measurements()
    if not isinstance(measured, Measurements):
        raise BadInput(
            "diagnosing a run",
            received=f"a {type(source).__name__}"
            + ("" if measured is source else f" whose measurements() gave a {type(measured).__name__}"),
            todo="pass a ledger, a Run, a Measurements or the path of a run file",
        )
    return measured
