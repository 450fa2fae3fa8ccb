"""How long the paths are that the gradient takes: its share by path length, and the mean in a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from skipgrad.core import PathRow, PathSpectrum, Run
from skipgrad.report.subjects import subject_trials
from skipgrad.report.text import figure, listed, plural, short

BEFORE, AFTER = "before the first step", "after the last step"


@dataclass(frozen=True)
class PathCurves:
    """The gradient at a fork by the number of branches it came through.

    Attributes:
        sentence: the signed means in words; empty where nothing was measured.
        points: records of who, when, length, share ⟨c_k, g⟩ / ‖g‖² and norm ‖c_k‖ / Σ‖c_k‖.
        means: records of who, when, branches on the longest path, signed and unsigned mean length; the unsigned one is
            None where the signed mean alone was measured.
        longest: branches on the longest path of all nets drawn.
        mean_only: nets of which the mean alone was measured, as they have too many branches.
        missing: what could not be measured, and why.
    """

    sentence: str = ""
    points: tuple[dict[str, Any], ...] = ()
    means: tuple[dict[str, Any], ...] = ()
    longest: int = 0
    mean_only: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def path_curves(run: Run) -> PathCurves:
    """The curves of the patient and, where it was measured, of the cured net, at the first and last moment measured."""
    points: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    told: list[str] = []
    mean_only: list[str] = []
    missing: list[str] = []
    longest = 0
    for who, trial in subject_trials(run):
        measured = []
        for row in _ends(run.paths.get(trial, ())):
            when = _when(row)
            if row.spectrum is None or not row.spectrum.measured:
                missing.append(f"{who}, {when}: {row.reason or (row.spectrum.reason if row.spectrum else '')}")
            elif _drawable(row.spectrum):
                measured.append((when, row.spectrum))
        if not measured:
            continue
        told.append(_words(who, measured))
        for when, spectrum in measured:
            signed, unsigned = spectrum.mean_length, spectrum.unsigned_mean_length
            means.append(
                {"who": who, "when": when, "branches": spectrum.longest, "signed": signed, "unsigned": unsigned}
            )
            if not spectrum.complete:
                mean_only.append(who)
                continue
            longest = max(longest, spectrum.longest)
            total = sum(spectrum.norms)
            points += [
                {"who": who, "when": when, "length": k, "share": share, "norm": norm / total}
                for k, norm, share in zip(spectrum.lengths, spectrum.norms, spectrum.shares, strict=True)
            ]
    sentence = f"On average the gradient came through {'; '.join(told)} (signed mean path length)." if told else ""
    only = tuple(dict.fromkeys(mean_only))
    return PathCurves(sentence, tuple(points), tuple(means), longest, only, tuple(missing))


def _ends(rows: tuple[PathRow, ...]) -> tuple[PathRow, ...]:
    return rows if len(rows) < 2 else (rows[0], rows[-1])


def _when(row: PathRow) -> str:
    return AFTER if row.step else BEFORE


def _words(who: str, measured: list[tuple[str, PathSpectrum]]) -> str:
    (when, first), *rest = measured
    means = [f"{figure(first.mean_length, 2)} of {plural(first.longest, 'branch', 'branches')} {when}"]
    means += [f"{figure(s.mean_length, 2)} {when}" for when, s in rest]
    net = "" if who == "patient" else f", {who}"
    return f"{' and '.join(means)}, at the fork of {listed([short(first.at)])}{net}"


def _drawable(spectrum: PathSpectrum) -> bool:
    figures = (spectrum.mean_length, *spectrum.norms, *spectrum.shares)
    return bool(spectrum.norms) and sum(spectrum.norms) > 0 and all(math.isfinite(f) for f in figures)
