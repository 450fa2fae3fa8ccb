"""SG011: the gradient of the first layers comes through nearly none of the branches, or through most of them."""

from __future__ import annotations

import math

from skipgrad.core import Measurements, PathRow, PathSpectrum
from skipgrad.core.units import number, percent
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._cost import advice, graded, worth_trying
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._prescribe import mend_branches

# Shorter nets have no long paths: after training a healthy ResNet-14 (six branches) stands at 0.51 of its longest, a
# ResNet-8 (three) at 0.74.
FEWEST = 8
# At half, every one of the 2^n paths counts alike and no branch is weaker than its skip (b = ‖B‖/‖S‖ = 1). Nets that
# learned well stood at 0.07–0.42 after training (benchmarks/results/2026-11-21-path-lengths.txt).
LONG = 0.5
# At three quarters the average shortcut carries a quarter of the gradient's energy (b = √3).
DROWNED = 0.75
# In branches. Below a tenth of one, nine tenths of the gradient have come past all of them.
PAST = 0.1
# SG005's figure of an idle branch, here of all branches together.
NOTHING = 0.01
# Over fewer steps a branch that starts at zero on purpose looks the same, as in SG005; and one that doubles is waking.
FEWEST_STEPS = 5
WAKING = 2.0
# Σ‖c_k‖ / ‖g‖. Good or bad, those nets stood at 1.1–4.1; at ten the paths take nine tenths of what they bring from
# each other.
CANCELLING = 10.0
# A mean that is off by less than this share of the longest path is one of chance, on a batch.
STRAY = 0.05
# The parts have to add up to autograd's gradient; float32 leaves 1e-7 to 1e-4.
INEXACT = 0.01


def judge(measured: Measurements) -> Judgement:
    """Judges the last path spectrum measured, against the first."""
    branches = sum(len(s.branches) for s in measured.graph.skips if s.kind == "add")
    if not branches:
        return not_applicable("the net has no add skips, so that all of the gradient's paths are one")
    if branches < FEWEST:
        return not_applicable(f"the net has {branches} branches, fewer than {FEWEST}; SG006 looks at each of them")
    if not measured.paths:
        return skipped(
            "the gradient by path length was not measured; skipgrad check does it, and so does "
            "ledger.spectrum(sg.path_spectrum(…)) after some steps"
        )
    row = measured.paths[-1]
    spectrum = row.spectrum
    if spectrum is None or not spectrum.measured:
        why = row.reason if spectrum is None else spectrum.reason
        return skipped(f"the gradient by path length could not be measured: {why}")
    if spectrum.longest < FEWEST:
        return not_applicable(f"the longest path has {spectrum.longest} branches, fewer than {FEWEST}")
    if not _sound(spectrum):
        return skipped(
            "the gradient by path length is too inexact to judge: its parts miss autograd's gradient by "
            f"{percent(spectrum.residual)}; measure in float64"
        )
    if row.step == 0:
        return skipped(
            f"it was measured before the first step only ({_told(spectrum)}), and training changes it: branches that "
            "start at zero wake up, long paths become shorter"
        )
    first = measured.paths[0]
    return _judge(
        measured,
        row,
        spectrum,
        first.spectrum if first is not row and first.spectrum and first.spectrum.measured else None,
    )


def _judge(measured: Measurements, row: PathRow, spectrum: PathSpectrum, start: PathSpectrum | None) -> Judgement:
    mean, longest = spectrum.mean_length, spectrum.longest
    evidence = _evidence(spectrum, start)
    where = [spectrum.at]
    # A mean that no path has can only come about by cancelling.
    if (spectrum.complete and spectrum.cancellation > CANCELLING) or mean < -STRAY * longest or mean > longest + PAST:
        return found(
            f"Paths of different lengths cancel: {_told(spectrum)}, while the norms of the parts add up to "
            f"{number(spectrum.cancellation)}× the gradient. The norm of a part then says nothing about its share; "
            "look for branches whose gradient opposes their skip's (cos(S, B) near −1, as in x − F(x)).",
            severity="info",
            where=where,
            evidence={**evidence, "threshold": CANCELLING},
        )
    if mean > LONG * longest:
        return found(
            f"The long paths dominate: {_told(spectrum)}, more than half, so that the average branch outweighs its "
            "skip, and still does so after training. The skips shield the first layers little. "
            + advice(measured, mend_branches(measured)),
            severity=graded(measured, "warning" if mean > DROWNED * longest else "info"),
            where=where,
            evidence={**evidence, "threshold": LONG * longest},
            remedies=worth_trying(measured, "zero-init", "skip-calibration"),
        )
    evidence |= {"threshold": PAST, "long_threshold": LONG * longest}
    if mean >= PAST:
        return passed(f"{_told(spectrum)}, {percent(mean / longest)} of the longest path", evidence)
    if row.step < FEWEST_STEPS:
        return skipped(
            f"nearly all of the gradient comes past the branches ({_told(spectrum)}), but after {row.step} steps: it "
            f"takes {FEWEST_STEPS} to tell that from branches that start at zero on purpose"
        )
    if start is not None and mean > 0 and mean >= WAKING * start.mean_length:
        return passed(f"{_told(spectrum)}, and more than before the first step: the branches are waking up", evidence)
    return found(
        f"The gradient goes past the branches: {_told(spectrum)}, and {percent(spectrum.shares[0])} of it through "
        "none. The first layers learn as though the net had no blocks. "
        + advice(
            measured,
            "Leave branches out that do nothing (SG005 names them), or raise their scale if they were meant to work.",
        ),
        severity=graded(measured, "warning" if mean < NOTHING else "info"),
        where=where,
        evidence=evidence,
        remedies=worth_trying(measured, "skip-calibration"),
    )


def _told(spectrum: PathSpectrum) -> str:
    at = f"the gradient at the fork of {some([spectrum.at])}"
    if spectrum.mean_length < 0:  # no path is shorter than none; parts of the gradient oppose the whole
        return (
            f"the signed mean of how many branches {at} came through is {number(spectrum.mean_length, 2)} (below "
            "none, as "
            f"paths cancel) of {spectrum.longest}"
        )
    return f"on average {at} came through {number(spectrum.mean_length, 2)} of {spectrum.longest} branches"


def _sound(spectrum: PathSpectrum) -> bool:
    figures = (spectrum.mean_length, spectrum.residual, spectrum.longer_norm, *spectrum.norms, *spectrum.shares)
    if not spectrum.shares or not all(math.isfinite(f) for f in figures):
        return False
    return spectrum.residual <= INEXACT and spectrum.grad_norm > 0


def _evidence(spectrum: PathSpectrum, start: PathSpectrum | None) -> dict[str, float | int | str]:
    evidence: dict[str, float | int | str] = {"mean_length": spectrum.mean_length}
    if spectrum.unsigned_mean_length is not None:
        evidence["unsigned_mean_length"] = spectrum.unsigned_mean_length
    evidence |= {"longest_path": spectrum.longest, "share_past_all": spectrum.shares[0]}
    if start is not None and math.isfinite(start.mean_length):
        evidence["mean_length_at_start"] = start.mean_length
    evidence |= {"cancellation": spectrum.cancellation, "residual": spectrum.residual, "branches": spectrum.branches}
    return evidence


CHECK = CHECKS.register(
    "SG011",
    Check(
        "SG011",
        "Gradient paths too long or too short",
        "info",
        "With n skips in a row the gradient has paths through none to all n branches, and in nets that train well most "
        "of it takes short ones. Where the long ones dominate, the skips do not shield the first layers; where nearly "
        "all of it goes past the branches, the net is effectively not deep.",
        judge,
    ),
)
