"""SG012: the run has nothing to show for its steps: its loss stands still, is that of chance, or went up and stayed."""

from __future__ import annotations

from collections.abc import Callable

from skipgrad.core import Measurements
from skipgrad.core.run import Severity
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, passed, skipped
from skipgrad.diagnosis._learning import FEWEST, LEAST_FALL, PATIENCE, WORSE, Learning, learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._prescribe import possible
from skipgrad.diagnosis._reach import LARGE_STEP, STILL, Reach, rate_factor, reach
from skipgrad.diagnosis.checks import (
    sg001_vanishing_gradient,
    sg002_exploding_gradient,
    sg003_stalled_updates,
    sg004_deep_and_skipless,
    sg006_drowned_skip,
    sg009_growing_stream,
)

# What may be the cause, in the order in which it is told: where the gradient goes, before what the net looks like.
_CAUSES: dict[str, tuple[str, Callable[[Measurements], Judgement]]] = {
    "SG002": ("the gradient explodes towards the input", sg002_exploding_gradient.judge),
    "SG009": ("the stream grows from block to block", sg009_growing_stream.judge),
    "SG001": ("the gradient vanishes towards the input", sg001_vanishing_gradient.judge),
    "SG006": ("branches drown their skips", sg006_drowned_skip.judge),
    "SG003": ("layers ignore the optimizer's steps", sg003_stalled_updates.judge),
    "SG004": ("many layers have no skip over them", sg004_deep_and_skipless.judge),
}
UNKNOWN = "No other check knows the cause."
# A tenth of what layers move by that learn.
SMALL_STEP = 1e-4
# Where steps of a hundredth teach nothing, smaller ones are tried; where they are smaller than that, larger ones.
USUAL_STEP = 0.01
# A rate that is too high is tried again at a tenth.
TENTH = 0.1


def judge(measured: Measurements) -> Judgement:
    """Judges the losses, then asks what comes back from the loss, then the other checks for the cause."""
    seen = learning(measured)
    if seen.state == "none":
        return skipped(
            "no losses were handed over, so that nobody looked whether the run learns; call "
            "ledger.loss(loss.item()) at "
            "each step"
        )
    if seen.state == "not finite":
        return skipped("the loss is not a finite number in some step; SG010 says where that began")
    if seen.state == "too short" and seen.steps >= PATIENCE:
        return skipped(
            f"the loss went from {number(seen.first)} to {number(seen.last)} in {seen.steps} steps, with a noise of "
            f"{number(seen.noise, 2)} from step to step, or its steps still grow: that is too little to tell whether "
            "it falls; go on, and look again"
        )
    if seen.state == "too short":
        return skipped(
            f"{seen.steps} losses are too few to tell a slow run from one that stands still; it takes {FEWEST} for a "
            f"constant, {PATIENCE} where there is noise"
        )
    evidence = _evidence(seen)
    if not seen.sick:
        return passed(f"the loss fell from {number(seen.first)} to {number(seen.last)} in {seen.steps} steps", evidence)
    back = reach(measured, seen.last)
    if back is not None:
        evidence["loss_elasticity"] = back.elasticity
        if back.update is not None:
            evidence["relative_update"] = back.update
    causes = {code: verdict for code, (_, judge) in _CAUSES.items() if _grave(verdict := judge(measured))}
    sentence, where, remedies = _cause(measured, seen, back, causes)
    if causes:
        evidence["found_with"] = ", ".join(causes)
    factor = _rate(seen, back, causes)
    if sentence.startswith(UNKNOWN):
        evidence["cause"] = "not known"
        factor = _trial(back)
    if factor is not None:
        evidence["rate_factor"] = factor
    return found(
        f"{_what(seen)} {sentence}", severity=_severity(seen), where=where, evidence=evidence, remedies=remedies
    )


def _rose(seen: Learning, back: Reach | None) -> bool:
    """Whether the loss went up, by steps that were large enough to take it there, and more than noise does."""
    tiny = back is not None and back.update is not None and back.update < STILL
    noise = back is not None and back.flat and seen.last - seen.best < TENTH * abs(seen.first)
    return seen.state in ("worse", "relapsed") and not tiny and not noise


def _rate(seen: Learning, back: Reach | None, causes: dict[str, Judgement]) -> float | None:
    """What to multiply the rate by, where the rate is what has to change; None where it is not known to be."""
    large = min(TENTH, rate_factor(back.update)) if back is not None and (back.update or 0.0) > LARGE_STEP else None  # type: ignore[arg-type]
    if _rose(seen, back):
        return large or TENTH
    if back is None or back.flat or back.last_dead or not back.update:
        return None
    if large:
        return large
    if _doubtful(back, causes):
        return TENTH
    # Where layers ignore their steps and nothing else is known, a little more than still is too little, too.
    if back.update > (SMALL_STEP if set(causes) == {"SG003"} else STILL):
        return None
    said = causes["SG003"].evidence if "SG003" in causes else {}
    return None if {"rate_factor", "dtype_wanted"} & said.keys() else rate_factor(back.update)


def _doubtful(back: Reach | None, causes: dict[str, Judgement]) -> bool:
    """Whether the steps are large for a healthy net, so that beside a cause in the net the rate is worth a trial."""
    return back is not None and bool(causes) and USUAL_STEP < (back.update or 0.0) <= LARGE_STEP


def _trial(back: Reach | None) -> float | None:
    """Which rate to try where the cause is not known: one on the other side of usual."""
    return None if back is None or not back.update else 10.0 if back.update < USUAL_STEP else TENTH


def _severity(seen: Learning) -> Severity:
    return "error" if seen.state in ("worse", "relapsed", "constant") or seen.steps >= 2 * PATIENCE else "warning"


def _grave(verdict: Judgement) -> bool:
    return verdict.state == "found" and verdict.severity != "info"


def _evidence(seen: Learning) -> dict[str, float | int | str]:
    evidence: dict[str, float | int | str] = {
        "loss_first": seen.first,
        "loss_last": seen.last,
        "loss_best": seen.best,
        "loss_noise": seen.noise,
        "threshold": WORSE if seen.state == "worse" else LEAST_FALL,
        "loss_is": seen.state,
        "steps": seen.steps,
    }
    if seen.chance is not None:
        evidence["loss_of_chance"] = seen.chance
    return evidence


def _what(seen: Learning) -> str:
    """What the loss did."""
    first, last, best = number(seen.first), number(seen.last), number(seen.best)
    steps = f"{seen.steps} steps"
    if seen.state == "constant":
        return f"The loss does not move: it is {last} from the first of {steps} to the last."
    if seen.state == "chance":
        return (
            f"The net has learned nothing in {steps}: its loss is {last}, and {number(seen.chance)} is what an "
            "answer gets "
            "that is always the same."
        )
    if seen.state == "worse":
        way = f"from {first} at the start to {last} after {steps}, {best} at its best"
        return f"The loss rose and has not come back: {way}."
    if seen.state == "relapsed":
        return (
            f"The loss rose and has not come back: it had fallen from {first} to {best}, and is {last} after {steps}."
        )
    return (
        f"The loss has not fallen in {steps}: {first} at the start, {last} at the end, with a noise of "
        f"{number(seen.noise, 2)} from step to step."
    )


def _cause(
    measured: Measurements, seen: Learning, back: Reach | None, causes: dict[str, Judgement]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Why, where, and which remedies; what comes back from the loss itself goes before all that lies behind it."""
    layers = measured.graph.layers
    head = (layers[-1].name,) if layers else ()
    rose = _rose(seen, back)
    if back is not None and back.last_dead and not rose:
        behind = [code for code in ("SG001", "SG004", "SG003") if code in causes]
        why = (
            f"{behind[0]} says where they are lost: {_CAUSES[behind[0]][0]}."
            if behind
            else "Lower the learning rate or the initialisation, or take an activation that lets a gradient through."
        )
        return (
            f"The last layer ({some(head)}) gets next to nothing as its input, so that its weights have no "
            "gradient: the "
            f"activations fade on their way, or the units before it are dead. {why}",
            head,
            causes[behind[0]].remedies if behind else (),
        )
    if back is not None and back.flat and not rose:
        return (
            "Next to nothing comes back from the loss itself: with all of its weights a layer could take "
            f"{number(back.elasticity, 2)} "
            "of the loss off it, to first order. The output is saturated (a sigmoid, tanh, softmax or clamp at the "
            "end that "
            "the targets lie beyond), or the loss does not depend on it. Mend the last layer or the loss – take the "
            "activation "
            "off it, or scale the targets to its range; the skips are not to blame.",
            head,
            (),
        )
    factor = _rate(seen, back, causes)
    if back is not None and factor is not None and factor > 1:
        return (
            f"The steps are too small: no layer moves by more than {number(back.update, 2)} of its weights in one. "
            f"Raise the learning rate {number(factor)}×: layers that learn move by a thousandth a step.",
            (),
            (),
        )
    if back is not None and back.update is not None and back.update > LARGE_STEP:
        size = number(back.update, 2)
        told = f"A step changes a layer by up to {size} of its weights: lower the learning rate, or clip the gradient."
    elif rose:
        told = "Lower the learning rate, or clip the gradient, from where it began to rise."
    else:
        told = ""
    if causes:
        code, verdict = next(iter(causes.items()))
        others = f" ({', '.join(list(causes)[1:])} as well)" if len(causes) > 1 else ""
        named = f"{code} says what may be the cause: {_CAUSES[code][0]}{others}."
        if not told and _doubtful(back, causes):
            named += (
                f" A step moves a layer by up to {number(back.update, 2)} of its weights, which is much for a net in "  # type: ignore[union-attr]
                "this state: a tenth of the learning rate is worth a trial, too."
            )
        return f"{told} {named}".strip(), verdict.where, verdict.remedies
    remedies = possible(measured, ("zero-init",)) if not told else ()
    if not told:
        factor = _trial(back)
        rate = (
            "a smaller and a larger learning rate"
            if back is None or factor is None
            else f"{'ten times' if factor > 1 else 'a tenth of'} the learning rate (a step moves no layer by more than "
            f"{number(back.update, 2)} of its weights)"
        )
        zero = ", start the branches at zero (zero-init)" if remedies else ""
        told = (
            f"{UNKNOWN} Try {rate}{zero}, and see whether the net can learn one batch by heart; "
            "if not, look at the inputs, the labels and the loss."
        )
    return told, (), remedies


CHECK = CHECKS.register(
    "SG012",
    Check(
        "SG012",
        "Loss that does not fall",
        "warning",
        "The run has nothing to show for its steps: its loss stands still, is no better than an answer that is "
        "always the "
        "same, or went up and stayed there. Whatever the gradient looks like, this is what a net is trained for, so "
        "it is "
        "told first, with what the other checks know about the cause.",
        judge,
    ),
)
