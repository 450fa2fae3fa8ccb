"""SG010: infinities or NaN in the loss, the activations or the gradients: where they came first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipgrad.core import LayerRow, Measurements, SkipRow
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, passed, skipped
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._reach import LARGE_STEP, largest_update, rate_factor
from skipgrad.diagnosis._series import finite
from skipgrad.diagnosis.checks import sg002_exploding_gradient, sg006_drowned_skip, sg009_growing_stream

# A rate that is too high is tried again at a tenth.
TENTH = 0.1
# A loss at twice its start was on its way up before it was lost.
RISEN = 2.0


@dataclass(frozen=True)
class Place:
    """Where it came first: the step, what was not finite, and the skip or layer nearest the source."""

    step: int
    what: str
    name: str


def judge(measured: Measurements) -> Judgement:
    """Judges every row and loss; forward values before backward ones, the backward from the output to the input."""
    if not (measured.skips or measured.layers or measured.losses):
        return skipped("nothing was measured")
    bad_skips = [r for r in measured.skips if not _sound_skip(r)]
    bad_layers = [r for r in measured.layers if not _sound_layer(r)]
    bad_losses = [p for p in measured.losses if not finite(p.loss)]
    steps = {r.step for r in bad_skips} | {r.step for r in bad_layers} | {p.step for p in bad_losses}
    every = set(measured.steps()) | {p.step for p in measured.losses}
    evidence: dict[str, float | int | str] = {"bad_steps": len(steps), "steps": len(every), "threshold": 0}
    if not steps:
        return passed(f"every loss, activation and gradient measured is finite over {len(every)} steps", evidence)

    first = min(steps)
    place = _first(measured, first, bad_skips, bad_layers)
    evidence |= {"first_step": first, "what": place.what}
    if place.name:
        evidence["first_place"] = place.name
    before = [p.loss for p in measured.losses if p.step < first and finite(p.loss)]
    if before:
        evidence["loss_before"] = before[-1]
    recovered = not bad_losses and max(every) not in steps
    where = dict.fromkeys(
        [place.name] * bool(place.name)
        + [r.skip for r in bad_skips if r.step == first]
        + [r.layer for r in sorted(bad_layers, key=lambda r: -r.depth) if r.step == first]
    )
    at = f" at {some([place.name])}" if place.name else ""
    if recovered:
        return found(
            f"At step {first} the {place.what}{at} was not finite, and {len(steps)} of {len(every)} steps were so; "
            "the run recovered. A loss scaler looking for its scale does this; otherwise clip the gradient.",
            severity="warning",
            where=tuple(where),
            evidence=evidence,
        )
    size = f"; the loss before was {number(before[-1])}" if before else ""
    others = _others(measured)
    at_once, update = first == min(every), largest_update(measured, first)
    calm = update is not None and update <= LARGE_STEP and (not before or before[-1] <= RISEN * before[0])
    told = f"From step {first} on the {place.what}{at} is not finite{size}. Every weight it reaches is lost"
    if not (at_once or (calm and not others)):
        evidence["rate_factor"] = min(TENTH, rate_factor(update)) if update and update > LARGE_STEP else TENTH
    if others:
        stays = "" if at_once else " Where it stays, lower the learning rate."
        return found(
            f"{told}.{others}{stays}",
            where=tuple(where),
            evidence=evidence,
            remedies=["zero-init"] if measured.graph.count("add") else ["add-skips"],
        )
    if "rate_factor" in evidence:
        return found(
            f"{told}: lower the learning rate to {number(float(evidence['rate_factor']))} of what it is, and look for "
            "a division or a logarithm of zero.",
            where=tuple(where),
            evidence=evidence,
        )
    why = (
        "that is before any step of the optimizer"
        if at_once
        else f"no step before changed a layer by more than {number(update)} of its weights, and the loss did not rise"
    )
    return found(
        f"{told}. The learning rate is not to blame: {why}. Look there, and in the inputs and the loss, for a "
        "division, a logarithm or a root of zero, a mean over nothing, a row of attention that is masked whole, or "
        "numbers beyond the dtype.",
        where=tuple(where),
        evidence=evidence,
    )


def _others(measured: Measurements) -> str:
    """Names the checks that found what may have led there; nothing when they found nothing."""
    checks = {
        "SG002": sg002_exploding_gradient.judge,
        "SG006": sg006_drowned_skip.judge,
        "SG009": sg009_growing_stream.judge,
    }
    named = [code for code, judge in checks.items() if (v := judge(measured)).state == "found" and v.severity != "info"]
    return f" Mend first what {' and '.join(named)} found, which may have led there." if named else ""


def _sound_skip(row: SkipRow) -> bool:
    # A size of F that is NaN where all else is finite was not read: an F that exists only inside a call (baddbmm). An F
    # that is NaN itself makes the x of the next skip so, though the loss may leave those places out.
    figures = (row.skip_norm, row.branch_norm, row.total_norm, row.out_norm, row.x_rms)
    return row.finite and all(map(finite, figures)) and not math.isinf(row.branch_rms)


def _sound_layer(row: LayerRow) -> bool:
    # None is a figure that was not asked for, not one that is bad.
    figures = (row.out_grad_norm, row.weight_norm, row.weight_grad_norm, row.update_norm)
    return row.finite and all(v is None or finite(v) for v in figures)


def _first(measured: Measurements, step: int, skips: list[SkipRow], layers: list[LayerRow]) -> Place:
    """What went wrong first within a step: weights, activations from the input, loss, gradients from the output."""
    order = {s.name: i for i, s in enumerate(measured.graph.skips)}
    here = sorted((r for r in skips if r.step == step), key=lambda r: order.get(r.skip, len(order)))
    there = sorted((r for r in layers if r.step == step), key=lambda r: r.depth)
    for r in there:
        if not finite(r.weight_norm):
            return Place(step, "weight", r.layer)
    for r in here:
        if not (finite(r.x_rms) and finite(r.branch_rms)):
            return Place(step, "activation", r.skip)
    for p in measured.losses:
        if p.step == step and not finite(p.loss):
            return Place(step, "loss", "")
    # Backward comes from the output, so what is nearest the output was first.
    for r in reversed(there):
        if not finite(r.out_grad_norm) or not finite(r.weight_grad_norm if r.weight_grad_norm is not None else 0.0):
            return Place(step, "gradient", r.layer)
    for r in reversed(here):
        return Place(step, "gradient", r.skip)
    return Place(step, "update", there[-1].layer if there else "")


CHECK = CHECKS.register(
    "SG010",
    Check(
        "SG010",
        "Infinities or NaN",
        "error",
        "A loss, an activation or a gradient was infinite or not a number. One such value spreads to every weight "
        "its gradient reaches in the same step, and the run is lost from there on; the first place tells the cause "
        "from its consequences.",
        judge,
        ("steps",),
    ),
)
