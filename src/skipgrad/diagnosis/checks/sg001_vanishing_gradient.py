"""SG001: the gradient that reaches the first layers, or a stretch in the middle, is a tiny part of what others get."""

from __future__ import annotations

from skipgrad.core import Measurements
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, passed
from skipgrad.diagnosis._cost import advice, loss_to_blame
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._prescribe import mend_branches, possible
from skipgrad.diagnosis._profile import Profile, moving, profile

# A healthy layer moves by about 1e-3 of its weights a step. A thousandth of that is 1e-6: the layer needs a million
# steps to change, so within any usual run it stays as it was initialised.
VANISHING = 1e-3
# A millionth of it is 1e-9, sixty times below half a unit in the last place of float32 (6e-8): nothing is learned.
GONE = 1e-6
# Where the loss of gradient is said to start: the point after which a tenth is never seen again.
ONSET = 0.1
# Activations whose slope is below one nearly everywhere; one between two skips is no pattern.
SATURATING = frozenset(("sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign", "logsigmoid"))
FEWEST_BETWEEN = 2
# Layers that change at a thirtieth of the others' pace are left behind within any run.
SLOW = 1 / 30


def judge(measured: Measurements) -> Judgement:
    """Judges the gradient of the layers' outputs: first layers against last, and each stretch against both its "
    "sides."""
    seen = profile(measured)
    if isinstance(seen, Judgement):
        return seen
    evidence = figures(seen, VANISHING)
    if seen.starved:
        evidence |= {"starved_layers": len(seen.starved), "starved_share": seen.starved_share}
    if seen.first_to_last >= VANISHING:
        if seen.starved:
            return _starved(measured, seen, evidence)
        return passed(
            f"the first layers get {number(seen.first_to_last)} of the last layers' gradient, and no stretch in "
            "between "
            "less than both its sides",
            evidence,
        )
    below = sorted((f, name) for f, name in zip(seen.relative, seen.layers, strict=True) if f < VANISHING)
    evidence["layers_below"] = len(below)
    onset = seen.onset(ONSET)
    if onset:
        evidence["starts_at"] = onset
    names = [name for _, name in below]
    pace = moving(measured, names)
    if pace is not None:
        evidence["update_of_others"] = pace
    harmless = _harmless(measured, pace)
    return found(
        f"The first layers get {number(seen.first_to_last)} of the gradient of the last ones: a factor of "
        f"{number(seen.per_layer)} per layer over {len(seen.layers)} layers"
        + (f", fading from {some([onset])} back to the input. " if onset else ". ")
        + fading(seen)
        + (f"{_even(pace)} " if harmless else "")
        + advice(measured, prescribe(measured, "they hardly learn"), well=harmless),
        severity="info" if harmless else "error" if seen.first_to_last < GONE else "warning",
        where=names,
        evidence=evidence,
        remedies=() if harmless or loss_to_blame(measured) else remedies(measured),
    )


def _harmless(measured: Measurements, pace: float | None) -> bool:
    """Whether the run learned, and the layers with next to no gradient move like the others (Adam evens sizes out)."""
    return learning(measured).well and pace is not None and pace > SLOW


def _even(pace: float | None) -> str:
    return f"The optimizer evens that out: they change {number(pace, 2)} times as fast as the other layers."


def _starved(measured: Measurements, seen: Profile, evidence: dict[str, float | int | str]) -> Judgement:
    """A stretch in the middle that the gradient passes by."""
    pace = moving(measured, seen.starved)
    if pace is not None:
        evidence["update_of_others"] = pace
    evidence |= {"starts_at": seen.starved[-1], "ends_at": seen.starved[0]}
    harmless = _harmless(measured, pace)
    passes = measured.graph.count("concat") > 0
    return found(
        f"A stretch in the middle is starved: {some(seen.starved)} get {number(seen.starved_share)} of the gradient "
        "that "
        f"the layers before and behind them get{', which goes past them along the long skips' if passes else ''}. "
        + (
            f"{_even(pace)} What they learn from is mostly rounding, and the run learns without them: ask whether "
            "the task "
            "needs them at all, and measure what the loss is without them."
            if harmless
            else advice(
                measured,
                "They hardly learn. Put a norm into these blocks, scale the outer long skips down or leave the "
                "outermost out for a while, and measure again."
                if passes
                else f"They hardly learn. {mend_branches(measured)}",
                well=False,
            )
        ),
        severity="info" if harmless else "error" if seen.starved_share < GONE else "warning",
        where=seen.starved,
        evidence=evidence,
        remedies=() if passes or harmless or loss_to_blame(measured) else remedies(measured),
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
    flat = saturating(measured)
    if flat:
        return (
            f"Because of that {why} in spite of the skips: {flat[0]} lies between them at {len(flat)} places, and only "
            "a part of the gradient comes through it each time. No remedy takes it away: take a ReLU-like activation, "
            "or put it into the branch."
        )
    if measured.graph.count("add"):
        return f"Because of that {why} in spite of the skips. {mend_branches(measured)}"
    if possible(measured, ("add-skips",)):
        return f"Because of that {why}; bridge the layers with skip connections (add-skips)."
    return (
        f"Because of that {why}, and add-skips finds no place for a skip: take ReLU-like activations, He's "
        "initialisation or "
        "a norm behind each layer."
    )


def saturating(measured: Measurements) -> list[str]:
    """The sigmoids and the like that lie between two skips, where there are several: no skip bridges those."""
    found = [op.rstrip("_") for s in measured.graph.skips for op in s.trunk if op.rstrip("_") in SATURATING]
    return found if len(found) >= FEWEST_BETWEEN else []


def remedies(measured: Measurements) -> tuple[str, ...]:
    """Skips where there are none; where there are, the branches' scale first.

    What evens out or normalises gradients is not among them: no race of ours and no net of the clinic was cured by it.
    """
    if saturating(measured):
        return ()
    if measured.graph.count("add") == 0:
        return ("add-skips",)
    bridge = ("add-skips",) if measured.graph.suggestions else ()
    return ("zero-init", "skip-calibration", *bridge)


CHECK = CHECKS.register(
    "SG001",
    Check(
        "SG001",
        "Vanishing gradient",
        "warning",
        "The gradient shrinks on its way back from the loss, so the first layers, or a stretch in the middle that "
        "it goes "
        "past, get a tiny part of what the others get. With one learning rate for all they stay close to their random "
        "initial weights, and the net is worth no more than the rest of it.",
        judge,
        ("steps",),
    ),
)
