"""Whether a run learned, by its losses alone: what SG012 says, and what other checks' severity rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from skipgrad.core import Measurements

# With fewer losses nothing is said.
FEWEST = 8
# A loss that has not fallen by more than its noise is slow in few steps, and stands still in many.
PATIENCE = 20
# A loss that moves by less than a ten-thousandth of itself over the whole run is a constant; noise moves any other.
CONSTANT = 1e-4
# A hundredth: a tenth of what the slowest of the nets that learn lost in 30 steps (benchmarks/clinic).
LEAST_FALL = 0.01
# At one and a half times its start a loss has left the range in which it started.
WORSE = 1.5
# "By orders": ten times the best it had been.
ORDERS = 10.0
# Half of the way down is lost again.
RELAPSE = 0.5
# Up to a tenth above chance a loss is still that of chance: weights that are not small add to it.
NEAR_CHANCE = 1.1
# Steps that are twice as large at the end as at the start.
WARMING = 2.0
# The loss of a net that says nothing is at most a few times chance; at ten times it is sure of what is wrong.
FAR = 10.0
# A run that starts this far below chance went on from weights that had learned.
BELOW_CHANCE = 0.7
# What came and went within the last tenth of the steps is a spike; what four in five of them show is there.
LASTING = 0.8
# A fall counts from two standard errors on.
SURE = 2.0
# From one and a half on it may be one: nobody knows before there are more steps.
UNSURE = 1.5

State = Literal["learned", "standing", "constant", "chance", "worse", "relapsed", "not finite", "too short", "none"]

# The states in which a run has nothing to show for its steps.
SICK: frozenset[State] = frozenset(("standing", "constant", "chance", "worse", "relapsed"))


@dataclass(frozen=True)
class Learning:
    """What became of the loss.

    Attributes:
        state: ``"learned"``; ``"standing"`` (it has not fallen by more than its noise), ``"constant"``, ``"chance"``
            (no better than an answer that is always the same), ``"worse"`` (above its start), ``"relapsed"`` (it had
            fallen, and lost half of it or went up by orders); ``"not finite"``, ``"too short"``, ``"none"`` (no loss).
        steps: how many losses there are.
        first: the loss at the start.
        best: the lowest it was, smoothed.
        last: the loss at the end, smoothed.
        noise: standard deviation from step to step at the end.
        chance: the loss of the best constant answer; None where it is not known.
    """

    state: State
    steps: int = 0
    first: float = math.nan
    best: float = math.nan
    last: float = math.nan
    noise: float = 0.0
    chance: float | None = None

    @property
    def sick(self) -> bool:
        """Whether the run has nothing to show for its steps."""
        return self.state in SICK

    @property
    def well(self) -> bool:
        """Whether the loss is known to have fallen and stayed down."""
        return self.state == "learned"

    @property
    def far(self) -> bool:
        """Whether the loss, though it fell, is still many times that of an answer that is always the same."""
        return self.chance is not None and self.last > FAR * self.chance


def learning(measured: Measurements) -> Learning:
    """Judges the losses of a run, in order of steps."""
    values = [p.loss for p in sorted(measured.losses, key=lambda p: p.step)]
    if not values:
        return Learning("none")
    if not all(math.isfinite(v) for v in values):
        return Learning("not finite", len(values))
    if len(values) < FEWEST:
        return Learning("too short", len(values), values[0], min(values), values[-1])
    return _judged(values, measured)


def _judged(values: Sequence[float], measured: Measurements) -> Learning:
    n = len(values)
    few, end = max(1, n // 10), values[-max(5, n // 10) :]
    first = median(values[:few])
    if first > 1.1 * values[0] > 0:  # it went up in the first steps; where it began is what counts
        first = values[0]
    tail = values[-max(3, n // 4) :]
    last, now = median(tail), median(end)
    # The noise of one step, from the differences between neighbours, which a steady fall does not widen.
    noise = _noise(tail)
    # A loss that has become restless was no less sure at its start. A median's error is √(π/2) times a mean's.
    at_start = min(noise, _noise(values[: max(3, n // 4)]) or noise)
    error = math.sqrt(at_start**2 / few + 1.57 * noise**2 / len(tail))
    width = max(3, n // 10)
    best = min(median(values[i : i + width]) for i in range(0, n - width + 1, max(1, width // 3)))
    size = max(abs(first), 1e-300)
    guess = chance_of(measured)
    known = measured_chance(measured)
    chance = known if known is not None else guess

    def said(state: State, at: float = last) -> Learning:
        return Learning(state, n, first, best, at, noise, chance)

    if max(values) - min(values) <= CONSTANT * size:
        return said("constant")

    def stays_above(level: float) -> bool:
        """Not by its median alone: a run that has gone wild has a noise that would excuse everything."""
        return sum(v > level for v in end) >= LASTING * len(end)

    if now > first + (WORSE - 1) * size and stays_above(first):
        return said("worse", now)
    fallen, risen = first - best, now - best
    if fallen > max(SURE * error, LEAST_FALL * size) and stays_above(best + 0.5 * RELAPSE * fallen):
        orders = best > 0 and now > ORDERS * best and risen > 0.1 * fallen
        if risen > RELAPSE * fallen or orders:
            return said("relapsed", now)
    fall = first - last
    if known is not None and last > known - max(error, LEAST_FALL * abs(known)):
        falling = median(values[n // 2 : n - len(tail)] or tail) - last > max(SURE * error, LEAST_FALL * size)
        return said("chance" if n >= PATIENCE and not falling else "too short")
    near = guess is not None and (1 - LEAST_FALL) * guess - error <= last <= NEAR_CHANCE * guess
    if near and fall < 0.1 * size:
        return said("chance" if n >= PATIENCE and not _warming(measured) else "too short")
    if guess is not None and last < BELOW_CHANCE * guess and known is None and fall > -SURE * error:
        return said("learned")
    if fall <= max(SURE * error, 0.5 * LEAST_FALL * size):
        unsure = fall > max(UNSURE * error, 0.5 * LEAST_FALL * size)
        return said("standing" if n >= PATIENCE and not unsure and not _warming(measured) else "too short")
    return said("learned")


def _noise(values: Sequence[float]) -> float:
    """The noise of one step, from the differences between neighbours."""
    return _spread([b - a for a, b in pairwise(values)]) / math.sqrt(2)


def _spread(steps: Sequence[float]) -> float:
    """A standard deviation that one spike does not widen; the plain one where most of the values are the same."""
    if len(steps) < 2:
        return 0.0
    middle = median(steps)
    robust = 1.4826 * median(abs(d - middle) for d in steps)
    return robust or math.sqrt(sum((d - middle) ** 2 for d in steps) / len(steps))


def _warming(measured: Measurements) -> bool:
    """Whether the optimizer's steps are still growing, as in a warm-up that the run has not left behind."""
    rows = [r for r in measured.layers if r.update_norm and math.isfinite(r.update_norm)]
    steps = sorted({r.step for r in rows})
    if len(steps) < FEWEST:
        return False
    third = len(steps) // 3
    early, late = set(steps[:third]), set(steps[-third:])
    sizes = [[r.update_norm or 0.0 for r in rows if r.step in part] for part in (early, late)]
    return median(sizes[1]) > WARMING * median(sizes[0])


def measured_chance(measured: Measurements) -> float | None:
    """The loss of the best constant answer, where somebody who has the data worked it out."""
    value = measured.chance
    return value if value is not None and math.isfinite(value) else None


def chance_of(measured: Measurements) -> float | None:
    """The cross entropy of guessing among as many classes as the last layer has outputs (two where it has one)."""
    layers = measured.graph.layers
    if not layers or len(layers[-1].out_shape) < 2:
        return None
    shape = layers[-1].out_shape
    # Convolutions have their classes in dimension 1, linear layers in the last one.
    classes = shape[1] if layers[-1].op.startswith("conv") and len(shape) > 2 else shape[-1]
    return math.log(max(2, classes))
