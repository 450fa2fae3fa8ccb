"""Which steps are measured: every n-th one, or as many as a share of the time pays for."""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from skipgrad.core import Cost

FIRST = 20  # steps that are measured whatever they cost, as a start is where nets fail
FREE = 1.0  # seconds in all that measuring may cost in any case: of a short training every step is wanted
PLAIN = 4  # and this many plain ones right after them, to compare with
AFTER = 3  # steps measured where something has changed, at most once in so many:
APART = 50
PAUSE = 3.0  # steps longer than a measured one usually is: the loop did something else meanwhile
JUMP = 10.0  # times the loss or a norm of before: a change
_WINDOW = 33


class Budget:
    """Decides, when a step begins, whether it is measured; times measured and plain steps.

    Args:
        share: of the time that measuring may cost; None for no limit.
        free: seconds in all that it may cost in any case.
        every: one step in so many is measured, where there is no limit.
        clock: seconds.
    """

    def __init__(
        self,
        share: float | None = None,
        every: int = 1,
        clock: Callable[[], float] = time.perf_counter,
        free: float = FREE,
    ) -> None:
        self.share, self.every = share, every
        self._free = free
        self.seen = self.measured = 0
        self._clock = clock
        self._began: float | None = None
        self._measuring = False
        self._plain: deque[float] = deque(maxlen=_WINDOW)
        self._extra: deque[float] = deque(maxlen=_WINDOW)  # what a measured step took beyond a plain one
        self._early: list[float] = []  # measured steps before there was a plain one
        self._spent = self._whole = 0.0
        self._until = 0  # the step from which on one may be measured again
        self._burst = 0
        self._changed = -APART
        # Steps drawn at random are never in step with an accumulation or an epoch. Not the user's generator, whose
        # numbers are the training's.
        self._dice = random.Random(0)
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._norms: deque[float] = deque(maxlen=_WINDOW)

    def begin(self, number: int) -> bool:
        """A step begins, and so ends the one before; whether it is to be measured."""
        self.seen += 1
        self._time()
        chosen = number % self.every == 0 if self.share is None else self._affords(number)
        self._measuring = chosen
        self.measured += chosen
        return chosen

    def stop(self) -> None:
        """The last step is over."""
        self._time()
        self._began = None

    def _time(self) -> None:
        """Files how long the step before took."""
        now = self._clock()
        began, self._began = self._began, now
        if began is None:
            return
        took = now - began
        if self.seen <= 2:
            return  # the first step of a process warms up, measured or not
        self._whole += took
        if not self._measuring:
            self._plain.append(took)
            if self._early and len(self._plain) >= PLAIN:
                typical = median(self._early)
                for early in self._early:
                    self._spend(early, typical)
                self._early.clear()
        elif self._plain and not self._early:
            self._spend(took, median(self._extra) + median(self._plain) if self._extra else took)
        else:
            self._early.append(took)

    def _spend(self, took: float, typical: float) -> None:
        """Files what a measured step took beyond a plain one; not the pause after it (an evaluation, a checkpoint)."""
        usual = median(self._plain)
        self._extra.append(max(0.0, (typical if took > typical + PAUSE * usual else took) - usual))
        self._spent += self._extra[-1]

    def _affords(self, number: int) -> bool:
        if self._burst and number >= FIRST + PLAIN:
            self._burst -= 1
            return True
        if number < FIRST + PLAIN:
            return number < FIRST
        if self._spent < self._free and self._extra:
            return self._spent + median(self._extra) <= self._free or self._paid(number)
        return self._paid(number)

    def _paid(self, number: int) -> bool:
        """Whether the share pays for this step, and its turn has come."""
        if number < self._until:  # before anything is computed: most steps end here
            return False
        usual = median(self._plain) if self._plain else 0.0
        cost = median(self._extra) if self._extra else 0.0
        assert self.share is not None
        owed = self._spent + cost - self.share * (self._whole + usual)
        if owed > 0:  # asked again when a part of it may have been paid back
            self._until = number + min(100, max(1, int(owed / (self.share * usual)) if usual else 1))
            return False
        gap = min(1000, max(1, math.ceil(cost / (self.share * usual)))) if usual else 1
        self._until = number + self._dice.randint(max(1, gap // 2), gap + gap // 2)
        return True

    # -- what changes ------------------------------------------------------------------------------
    def loss(self, value: float) -> None:
        """Told of a loss; where it jumps, the steps that follow are measured."""
        self._look(value, self._losses)

    def norm(self, value: float) -> None:
        """Told of the size of the gradient in a measured step."""
        self._look(value, self._norms)

    def _look(self, value: float, before: deque[float]) -> None:
        jumped = not math.isfinite(value)
        if len(before) >= 3 and not jumped:
            usual = median(before)
            jumped = abs(value) > JUMP * abs(usual) > 0
        if math.isfinite(value):
            before.append(value)
        if jumped and self.share is not None and self.seen - self._changed >= APART:
            self._changed, self._burst = self.seen, AFTER

    @property
    def cost(self) -> Cost:
        """What measuring has cost so far."""
        known = self._whole > 0 and bool(self._extra)
        share = self._spent / self._whole if known else None
        return Cost(share, self._spent, self.measured, self.seen)
