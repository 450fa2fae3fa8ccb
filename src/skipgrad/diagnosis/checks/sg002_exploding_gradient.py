"""SG002: the gradient grows on its way back, so the first layers get many times what the last ones get."""

from __future__ import annotations

from skipgrad.core import Measurements
from skipgrad.core.run import Severity
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, passed
from skipgrad.diagnosis._cost import advice, excessive, graded, worth_trying
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._profile import Profile, profile
from skipgrad.diagnosis.checks.sg001_vanishing_gradient import figures, prescribe, remedies

# Healthy nets measured at their first step (ResNet-18, MobileNet, DenseNet, ViT, Swin, ConvNeXt, GPT-2, BERT, Llama)
# stood at 0.5 to 65, ResNet-50 with a batch of 8 at 232. A plain 56-layer net with batch norm, which does not train,
# stood above 580 for 14 of 16 seeds (1.18 a layer), at 108 and 181 for the other two, which are missed.
EXPLODING = 300.0
# A million times: the last layers' step falls below float32's resolution as soon as the first ones' is bearable.
HOPELESS = 1e6
ONSET = 10.0


def judge(measured: Measurements) -> Judgement:
    """Judges the gradient of the layers' outputs, first layers against last, median over the steps."""
    seen = profile(measured)
    if isinstance(seen, Judgement):
        return seen
    evidence = figures(seen, EXPLODING)
    # Under batch norm the first step swells the first layers' weights, which then get less: the start counts as much.
    worst = max(seen.first_to_last, seen.at_start)
    evidence["first_to_last_at_start"] = seen.at_start
    if worst <= EXPLODING:
        return passed(f"the first layers get {number(worst)}× the last layers' gradient at most", evidence)
    above = sorted(((f, name) for f, name in zip(seen.relative, seen.layers, strict=True) if f > EXPLODING))
    evidence["layers_above"] = len(above)
    onset = seen.onset(ONSET)
    if onset:
        evidence["starts_at"] = onset
    # A loss that fell by half from a thousand times chance is no sign that the run copes.
    away = worst > HOPELESS or learning(measured).far
    return found(
        f"The first layers get {number(seen.first_to_last)}× the gradient of the last ones (at the start "
        f"{number(seen.at_start)}×): a factor of {number(seen.per_layer)} per layer over {len(seen.layers)} layers"
        + (f", growing from {some([onset])} back to the input. " if onset else ". ")
        + growing(seen)
        + advice(
            measured,
            prescribe(measured, "no one learning rate suits both ends"),
            well=False if away else None,
        ),
        severity=_severity(measured, worst),
        where=[name for _, name in reversed(above)] or [seen.layers[0]],
        evidence=evidence,
        remedies=remedies(measured) if away else worth_trying(measured, *remedies(measured)),
    )


def _severity(measured: Measurements, worst: float) -> Severity:
    if worst > HOPELESS:
        return excessive(measured, "error")
    return "warning" if learning(measured).far else graded(measured, "warning")


def growing(seen: Profile) -> str:
    """A sentence for nets whose activations grow along with the gradient."""
    weights = seen.weights_first_to_last
    if weights is None or weights >= 1:
        return ""
    return "The activations grow on their way forward as well: the initialisation is too large. "


CHECK = CHECKS.register(
    "SG002",
    Check(
        "SG002",
        "Exploding gradient",
        "warning",
        "The gradient grows on its way back from the loss, so the first layers get many times what the last ones "
        "get. A learning rate the first layers can bear is too small for the rest, and one that suits the rest "
        "makes the first layers jump.",
        judge,
        ("steps",),
    ),
)
