"""SG003: the optimizer steps, and the weights do not change, because the update is smaller than the dtype can hold."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from skipgrad.core import LayerRow, Measurements
from skipgrad.core.units import number, percent
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._cost import advice, loss_to_blame
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._pace import expected_update, relative_updates
from skipgrad.diagnosis._reach import STILL, rate_factor
from skipgrad.diagnosis._reached import unreached
from skipgrad.diagnosis._series import finite
from skipgrad.diagnosis.checks.sg001_vanishing_gradient import saturating

# Half of the weights that have a gradient: from there on the typical weight does not move. "A majority of steps" is the
# same half over time.
STALLED = 0.5
# Nine in ten in a layer: it is as good as frozen.
FROZEN = 0.9
# The first tenth of the steps is not judged: warm-up starts at a rate of (nearly) nothing, and a zeroed last layer of a
# branch gives its other layers no gradient at the first step, both on purpose.
WARM_UP = 0.1
# A gradient of zero is judged over no fewer steps than this, for the same reason.
FEWEST_STEPS = 3
# A layer that gets a gradient in one late step of ten is used now and then (an expert of a router), not cut off.
NEVER = 0.9
# Under a tenth of the layers without a gradient (an attention that has saturated) a run that learns does without them.
FEW = 0.1
# Non-zero gradients this close to the smallest number of the dtype mean that the zeros beside them underflowed.
NEAR_UNDERFLOW = 1e3

# A loss of a thousandth of what it was at first has little left to give.
CONVERGED = 1e-3

# An update of a millionth of the weights is above what float32 rounds away.
VISIBLE = 1e-6

# Half a unit in the last place, relative to the weight (at most): an update below it is rounded away.
FLOOR = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
# Smallest positive number: a gradient below half of it becomes exactly zero.
SMALLEST = {"float64": 2.0**-1074, "float32": 2.0**-149, "bfloat16": 2.0**-133, "float16": 2.0**-24}


@dataclass(frozen=True)
class Idle:
    """One layer whose weights stay as they are.

    Attributes:
        layer: its name.
        share: of its weights, median over the steps judged.
        steps: share of the steps in which half of its weights or more stayed.
        reason: ``"rounded away"``, ``"underflow"`` or ``"no gradient"``.
        dtype: of its weights.
        update: ‖ΔW‖ / ‖W‖, median; None where not measured.
    """

    layer: str
    share: float
    steps: float
    reason: str
    dtype: str
    update: float | None


def judge(measured: Measurements) -> Judgement:
    """Judges `stalled` and `zero_grad` of each layer over the steps after warm-up."""
    if not measured.layers:
        if not measured.graph.layers:
            return not_applicable("the net has no weighted layers")
        return skipped("no layer was measured; watch a training step and give the watch the optimizer")
    if all(r.stalled is None for r in measured.layers):
        return skipped("no updates were measured: give the watch the optimizer (watch(model, graph, optimizer=…))")

    # A step whose gradient overflowed is skipped by a loss scaler, and spoilt otherwise: SG010 reports it.
    sound = tuple(r for r in measured.layers if r.finite)
    if not sound:
        return skipped("no step had a finite gradient")
    judged = _after_warm_up(sound)
    looked_up = {layer.name.split("#")[0] for layer in measured.graph.layers if "embedding" in layer.op}
    by_layer: dict[str, list[LayerRow]] = defaultdict(list)
    for row in judged:
        by_layer[row.layer].append(row)
    idle = [i for name, rows in by_layer.items() if (i := _idle(name, rows, name in looked_up)) is not None]
    idle.sort(key=lambda i: -i.share)

    dtypes = sorted({r.dtype for r in judged})
    shares = [
        median(each) for rows in by_layer.values() if (each := [s for r in rows if (s := _stalled(r)) is not None])
    ]
    evidence: dict[str, float | int | str] = {
        "layers_stalled": len(idle),
        "layers": len(by_layer),
        "threshold": STALLED,
        "largest_share": max([i.share for i in idle] or shares or [0.0]),
        "dtype": ", ".join(dtypes),
        "steps": len({r.step for r in judged}),
    }
    floors = [FLOOR[d] for d in dtypes if d in FLOOR]
    if floors:
        evidence["relative_floor"] = max(floors)
    cut = unreached(measured)
    if not idle and cut is not None and cut.cut:
        return skipped(
            f"{len(cut.cut)} of {cut.layers} layers ({some(cut.cut)}) never got a gradient (SG013), so that they "
            "take no steps "
            f"that could be judged; the other {len(by_layer)} move"
        )
    if not idle:
        return passed("in no layer do half the weights ignore the optimizer's step", evidence)
    head = idle[0]
    evidence["reason"] = head.reason
    if head.update is not None:
        evidence["relative_update"] = head.update
    evidence |= _change(idle, judged)
    strange = _not_given(idle, judged)
    spared = _spared(measured, idle, len(by_layer))
    return found(
        _say(idle, judged, strange)
        + (" The run learns without them: see whether it needs them." if spared else _loss_first(measured)),
        severity="info" if spared or _converged(measured) else "error" if head.share >= FROZEN else "warning",
        where=[i.layer for i in idle],
        evidence=evidence,
        # No remedy brings weights to an optimizer.
        remedies=() if spared or strange or loss_to_blame(measured) else _remedies(measured, head),
    )


def _change(idle: list[Idle], judged: list[LayerRow]) -> dict[str, float | int | str]:
    """What of the training has to change, where that is what has to: the dtype of the weights, or the rate."""
    head = idle[0]
    if head.reason == "no gradient":
        return {}
    if head.dtype in ("bfloat16", "float16"):
        return {"dtype_wanted": "float32"}
    moved = relative_updates(judged)
    fastest = max(moved.values(), default=0.0)
    return {"rate_factor": rate_factor(fastest)} if 0 < fastest < STILL else {}


def _not_given(idle: list[Idle], judged: list[LayerRow]) -> bool:
    """Whether the worst layer's weights do not move at all and would, if the optimizer had them."""
    still = {i.layer for i in idle if i.update == 0 and i.share >= 1 and i.reason == "rounded away"}
    if idle[0].layer not in still:
        return False
    expected = expected_update(judged, idle[0].layer, still)
    return expected is None or expected > VISIBLE


def _spared(measured: Measurements, idle: list[Idle], layers: int) -> bool:
    """Whether the run learned, and no more than a few of its layers get no gradient."""
    return learning(measured).well and len(idle) < FEW * layers and all(i.reason == "no gradient" for i in idle)


def _converged(measured: Measurements) -> bool:
    """Whether the loss has all but gone, and updates with it."""
    seen = learning(measured)
    return seen.well and 0 <= seen.last < CONVERGED * seen.first


def _after_warm_up(rows: tuple[LayerRow, ...]) -> list[LayerRow]:
    steps = sorted({r.step for r in rows})
    skip = math.ceil(WARM_UP * len(steps)) if len(steps) >= FEWEST_STEPS else 0
    kept = set(steps[skip:])
    return [r for r in rows if r.step in kept]


def _idle(name: str, rows: list[LayerRow], looked_up: bool) -> Idle | None:
    dtype = rows[-1].dtype
    update = [r.update_norm / r.weight_norm for r in rows if finite(r.update_norm) and r.weight_norm > 0]  # type: ignore[operator]
    relative = median(update) if update else None

    stalled = [s for r in rows if (s := _stalled(r)) is not None]
    often = _often(stalled)
    if often > 0.5:
        return Idle(name, median(stalled), often, "rounded away", dtype, relative)

    zero = [float(r.zero_grad) for r in rows if finite(r.zero_grad)]  # type: ignore[arg-type]
    often = _often(zero)
    if len(zero) < FEWEST_STEPS or often <= 0.5:
        return None
    if median(zero) >= 1.0:
        late = zero[len(zero) // 2 :]
        none = sum(z >= 1.0 for z in late) / len(late)
        return Idle(name, 1.0, often, "no gradient", dtype, relative) if none >= NEVER else None
    # Some zeros are usual (units that a ReLU cut off, inputs that are constant): they count only when the other
    # gradients are so small that these must have underflowed.
    # So they never do in an embedding, where rows whose tokens are not in the batch have none.
    if not looked_up and any(_near_underflow(r) for r in rows):
        return Idle(name, median(zero), often, "underflow", dtype, relative)
    return None


def _stalled(row: LayerRow) -> float | None:
    """Share of the weights *that have a gradient* which the step left unchanged."""
    alive = 1 - (row.zero_grad or 0.0)
    if row.stalled is None or not math.isfinite(row.stalled) or not alive > 0:
        return None
    return min(row.stalled / alive, 1.0)


def _often(shares: list[float]) -> float:
    return sum(s >= STALLED for s in shares) / len(shares) if shares else 0.0


def _near_underflow(row: LayerRow) -> bool:
    alive = row.weights * (1 - (row.zero_grad or 0.0))
    if row.dtype not in SMALLEST or alive < 1 or not finite(row.weight_grad_norm):
        return False
    rms = float(row.weight_grad_norm or 0.0) / math.sqrt(alive)
    return 0 < rms < NEAR_UNDERFLOW * SMALLEST[row.dtype]


def _say(idle: list[Idle], judged: list[LayerRow], strange: bool) -> str:
    head, layers = idle[0], len({r.layer for r in judged})
    names = some(i.layer for i in idle)
    if head.reason == "no gradient":
        return (
            f"In {len(idle)} of {layers} layers ({names}) every weight's gradient is exactly zero: see whether "
            "something cuts it off (a detach, dead units), and bridge the layers between with skips if it faded on "
            "the way."
        )
    if head.reason == "underflow":
        return (
            f"In {len(idle)} of {layers} layers ({names}) up to {percent(head.share)} of the gradients underflow to "
            f"zero in {head.dtype}: scale the loss, or keep the gradients in float32."
        )
    if strange:
        return (
            f"In {len(idle)} of {layers} layers ({names}) no weight changes at all, though each has a gradient. See "
            "whether the optimizer has these very weights (it may hold those of a copy, or of the model before it was "
            "wrapped or moved, or leave them out), and whether their group's rate is zero or next to it."
        )
    floor = FLOOR.get(head.dtype)
    size = (
        f" A weight stays as it is when its own update is below {number(floor)} of it ({head.dtype})" if floor else ""
    )
    if head.update is not None:
        size += ", and" if size else ""
        size += f" {some([head.layer])} as a whole moves by {number(head.update)} of its size a step."
    elif size:
        size += "."
    factor = _change(idle, judged).get("rate_factor")
    if head.dtype in ("bfloat16", "float16"):
        cure = "Keep the weights in float32 (mixed precision instead of pure half precision)."
    elif factor is not None:
        cure = f"Raise the learning rate {number(float(factor))}×: layers that learn move by a thousandth a step."
    else:
        cure = "Raise the learning rate, or bring more gradient to these layers."
    many = f"In {len(idle)} of {layers} layers ({names})"
    return f"{many} up to {percent(head.share)} of the weights ignore a step.{size} {cure}"


def _loss_first(measured: Measurements) -> str:
    """Where the loss itself sends nothing back, or where nobody knows what it does."""
    told = "" if learning(measured).well else advice(measured, "").strip()
    return f" {told}" if told else ""


def _remedies(measured: Measurements, head: Idle) -> tuple[str, ...]:
    if head.dtype in ("bfloat16", "float16") and head.reason != "no gradient":
        return ()  # the format is what has to change
    if saturating(measured):  # what fades between the skips fades again
        return ()
    return ("add-skips",) if measured.graph.count("add") == 0 else ()


CHECK = CHECKS.register(
    "SG003",
    Check(
        "SG003",
        "Stalled updates",
        "warning",
        "The optimizer takes a step and the weights stay the same, because the update is smaller than half a unit "
        "in the last place of the weight's dtype, or because the gradient underflowed to zero. Such a layer is "
        "frozen, whatever the loss curve says.",
        judge,
        ("steps",),
    ),
)
