"""SG001: the gradient that reaches the first layers is a tiny part of what the last layers get."""

from __future__ import annotations

from skipgrad.core import Measurements
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, passed
from skipgrad.diagnosis._profile import Profile, profile
from skipgrad.diagnosis._series import some

# A healthy layer moves by about 1e-3 of its weights a step. A thousandth of that is 1e-6: the layer needs a million
# steps to change, so within any usual run it stays as it was initialised.
VANISHING = 1e-3
# A millionth of it is 1e-9, sixty times below half a unit in the last place of float32 (6e-8): nothing is learned.
GONE = 1e-6
# Where the loss of gradient is said to start: the point after which a tenth is never seen again.
ONSET = 0.1


def judge(measured: Measurements) -> Judgement:
    """Judges the gradient of the layers' outputs, first layers against last, median over the steps."""
    seen = profile(measured)
    if isinstance(seen, Judgement):
        return seen
    evidence = figures(seen, VANISHING)
    if seen.first_to_last >= VANISHING:
        return passed(f"the first layers get {number(seen.first_to_last)} of the last layers' gradient", evidence)
    below = sorted((f, name) for f, name in zip(seen.relative, seen.layers, strict=True) if f < VANISHING)
    evidence["layers_below"] = len(below)
    onset = seen.onset(ONSET)
    if onset:
        evidence["starts_at"] = onset
    return found(
        f"The first layers get {number(seen.first_to_last)} of the gradient of the last ones: a factor of "
        f"{number(seen.per_layer)} per layer over {len(seen.layers)} layers"
        + (f", fading from {some([onset])} back to the input. " if onset else ". ")
        + fading(seen)
        + prescribe(measured, "they hardly learn"),
        severity="error" if seen.first_to_last < GONE else "warning",
        where=[name for _, name in below],
        evidence=evidence,
        remedies=remedies(measured),
    )


def figures(seen: Profile, threshold: float) -> dict[str, float | int | str]:
    """The evidence SG001 and SG002 have in common."""
    evidence: dict[str, float | int | str] = {
        "first_to_last": seen.first_to_last,
        "threshold": threshold,
        "per_layer_factor": seen.per_layer,
        "layers": len(seen.layers),
        "steps": seen.steps,
        "first_layer": seen.layers[0],
        "last_layer": seen.layers[-1],
    }
    if seen.weights_first_to_last is not None:
        evidence["weights_first_to_last"] = seen.weights_first_to_last
    return evidence


def fading(seen: Profile) -> str:
    """A sentence for nets whose activations fade along with the gradient."""
    weights = seen.weights_first_to_last
    if weights is None or weights < VANISHING:
        return ""
    return (
        f"The activations fade on their way forward too (the first weights get {number(weights)} of the last ones' "
        "gradient, relative to their size): the initialisation is too small for all of them. "
    )


def prescribe(measured: Measurements, why: str) -> str:
    """What to do: bridge the layers where there are no skips, else mend the branches."""
    if measured.graph.count("add") == 0:
        return f"Because of that {why}; bridge the layers with skip connections."
    return f"Because of that {why} in spite of the skips; start the branches at zero or calibrate them."


def remedies(measured: Measurements) -> tuple[str, ...]:
    """Skips first where there are none; where there are, the branches' scale first."""
    if len(measured.graph) == 0:
        return ("add-skips",)  # the others need a skip to measure
    if measured.graph.count("add") == 0:
        return ("add-skips", "gradient-normalization", "gradient-scaling")
    if measured.graph.suggestions:
        return ("zero-init", "skip-calibration", "add-skips", "gradient-normalization")
    return ("zero-init", "skip-calibration", "gradient-normalization")


CHECK = CHECKS.register(
    "SG001",
    Check(
        "SG001",
        "Vanishing gradient",
        "warning",
        "The gradient shrinks on its way back from the loss, so the first layers get a tiny part of what the last "
        "ones get. With one learning rate for all they stay close to their random initial weights, and the deep net "
        "is worth no more than its last layers.",
        judge,
    ),
)
