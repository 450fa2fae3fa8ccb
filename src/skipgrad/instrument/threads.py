"""Chooses how many threads torch computes with, by how long a step takes and not by how many CPUs the machine has.

The ops of small nets take microseconds. OpenMP's threads wait for one another at the end of each op, and where another
process has one of the CPUs, each such wait lasts until the scheduler gives the CPU back: two threads then take many
times as long as one.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from skipgrad.core.errors import BadInput
from skipgrad.instrument.cpus import allowed_cpus

MOST = 1024  # threads that may be asked for: the OpenMP runtime ends a process for which it cannot make them

WARM_UP = 2  # the first steps of a trial are not timed: buffers and the optimizer's state are made in them
# How many steps are timed with each number of threads; after ENOUGH seconds the least will do.
LEAST_ROUNDS, MOST_ROUNDS, ENOUGH = 3, 10, 1.0
# Steps longer than LONG cost so much to time that CLEAR_ROUNDS will do where they all agree: the slowest with one
# number is faster, by the factor CLEAR, than the fastest with the other.
LONG, CLEAR, CLEAR_ROUNDS = 0.05, 1.5, 2
GAIN = 0.9  # the number in use gives way to one whose steps take less than this share of its time
LOST = 4.0  # a number whose step takes this many times as long as the other's has lost at once
STARTING = 0.2  # seconds that the first step with a number may take beyond that, as threads are started in it
# Ops, or seconds of ops, that are timed to see whether threads wait for one another: longer than many time slices of
# the scheduler, so that a busy CPU is noticed.
MEETINGS, SPENT = 2000, 0.05
# A number is not tried when an op with it takes more than WAITS seconds and OPS such ops more than a step.
WAITS, OPS = (
    1e-4,
    500,
)
WINDOW = 10  # steps whose median is watched after the choice
MOVED = 2.0  # both numbers are timed again when steps have become this many times slower or faster
PATIENCE = 20  # steps until they may be timed again for the first time; twice as many after each time


class Threads:
    """Sets torch's threads to 1 or to as many as this process may use CPUs, whichever makes training steps faster.

    ``with threads:`` goes around the whole work and puts torch's number back at the end, ``with threads.step(number):``
    goes around each optimizer step of a trial. Until it has settled, it takes steps with both numbers in turns, and
    compares the medians of their times; the first steps, and the first step with each number, do not count. It times
    both again when steps become twice as slow or twice as fast, and waits twice as long after each time, so that it
    does not go back and forth.

    The last bits of results depend on the number of threads, so whatever must repeat to the bit needs a fixed number.

    Args:
        wanted: ``"auto"``, a fixed number, or None, which leaves torch's number alone.
        allowed: CPUs that may be used; asked of the machine when None. ``OMP_NUM_THREADS`` is a limit to ``"auto"``.
        clock: seconds.

    Raises:
        BadInput: for another ``wanted``.
    """

    def __init__(
        self, wanted: str | int | None, *, allowed: int | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.wanted = parse(wanted)
        self.allowed = allowed_cpus() if allowed is None else allowed
        self._clock = clock
        limit, why = self.allowed, "this process may use one CPU"
        environment = _environment()
        if environment is not None and environment < limit:
            limit, why = environment, f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}"
        self.changes: list[dict[str, Any]] = []
        self._counts: tuple[int, ...] = ()
        self._reference: float | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._steps = 0
        self._wait_until, self._patience = 0, PATIENCE
        self._before: int | None = None
        if self.wanted is None:
            self.chosen, self.how = None, "as they were"
        elif isinstance(self.wanted, int):
            self.chosen, self.how = self.wanted, "fixed"
        elif limit == 1:
            self.chosen, self.how = 1, f"auto: {why}"
        else:
            self.chosen, self.how = 1, "auto: not measured yet: 1 thread"
            self._counts = (1, limit)
        # What is being timed: steps of each number, whose turn it is, and how many are thrown away first.
        self._timed: dict[int, list[float]] | None = {n: [] for n in self._counts} if self._counts else None
        self._throw = {n: int(n != self.chosen) for n in self._counts}  # the one in use is warm by then
        self._first, self._met = True, False

    @property
    def settled(self) -> bool:
        """Whether a number is chosen and no other is being timed against it."""
        return self._timed is None

    def meta(self) -> dict[str, Any]:
        """What the run file says: ``chosen``, ``allowed``, ``how`` it was chosen in words, and later ``changes``."""
        chosen = torch.get_num_threads() if self.chosen is None else self.chosen
        return {"chosen": chosen, "allowed": self.allowed, "how": self.how, "changes": list(self.changes)}

    def __enter__(self) -> Threads:
        assert self._before is None, "one with a time"
        self._before = torch.get_num_threads()
        self._set(self.chosen)
        return self

    def __exit__(self, *exc: object) -> None:
        self._set(self._before)
        self._before = None

    @contextmanager
    def step(self, number: int, *, fixed: bool = False) -> Iterator[None]:
        """Spans one optimizer step.

        Args:
            number: of the step in its trial, from 0; the first ones are not timed.
            fixed: no number may be tried, as with compiled code, which is made for a number of threads.
        """
        assert self._before is not None, "inside `with threads:`"
        if not self._counts or fixed:
            self._set(self.chosen)
            yield
            return
        with_ = self._turn() if number >= WARM_UP else self.chosen
        self._set(with_)
        begin = self._clock()
        yield  # a step that raises is not counted
        took = self._clock() - begin
        self._steps += 1
        if number < WARM_UP:
            return
        assert with_ is not None
        if self._timed is None:
            self._watch(took)
        elif self._throw[with_]:
            self._throw[with_] -= 1
            held = self._timed[next(n for n in self._counts if n != with_)]
            if held and took > LOST * median(held) + STARTING:  # no start of threads takes this long
                self._timed[with_].append(took)
                self._decide()
        else:
            self._timed[with_].append(took)
            self._judge(with_)

    def settle(self) -> None:
        """Ends the timing and decides by the steps timed so far; the number stays when one of the two has none."""
        if self._timed is None:
            return
        if all(self._timed.values()):
            self._decide()
        else:
            self._tell(f"too few steps to tell: {_threads(self.chosen or 1)}")
            self._end(None)

    # -- timing both ---------------------------------------------------------------------------
    def _other(self) -> int:
        return next(n for n in self._counts if n != self.chosen)

    def _turn(self) -> int | None:
        """The number for the next step: the one in use and the other in turns, the one in use first."""
        if self._timed is None or self.chosen is None:
            return self.chosen
        other = self._other()
        done = {n: len(times) - self._throw[n] for n, times in self._timed.items()}
        if done[self.chosen] <= max(done[other], 0):  # one of its steps is known before the other is tried
            return self.chosen
        if other > 1 and not self._met:
            self._met = True
            took, wait = median(self._timed[self.chosen]), meeting(other, self._clock)
            if wait > WAITS and wait * OPS > took:
                self._tell(f"1 thread {_time(took)} a step, {_threads(other)} wait {_time(wait)} at every op")
                self._end(took)
        return self.chosen if self._timed is None else other

    def _judge(self, last: int) -> None:
        assert self._timed is not None
        rival = next(n for n in self._counts if n != last)
        if self._timed[rival] and self._timed[last][-1] > LOST * median(self._timed[rival]):
            self._decide()
            return
        rounds = min(len(times) for times in self._timed.values())
        spent = sum(sum(times) for times in self._timed.values())
        clear = rounds >= CLEAR_ROUNDS and self._clear()
        if rounds >= MOST_ROUNDS or (rounds >= LEAST_ROUNDS and spent >= ENOUGH) or clear:
            self._decide()

    def _clear(self) -> bool:
        assert self._timed is not None
        one, other = self._timed.values()
        fast, slow = (one, other) if max(one) < max(other) else (other, one)
        return min(slow) > LONG and min(slow) > CLEAR * max(fast)

    def _decide(self) -> None:
        assert self._timed is not None
        assert self.chosen is not None
        took = {n: median(times) for n, times in self._timed.items()}
        before, other = self.chosen, self._other()
        if took[other] < GAIN * took[before]:
            self.chosen = other
        told = ", ".join(f"{_threads(n)} {_time(took[n])}{' a step' * (k == 0)}" for k, n in enumerate(self._counts))
        if self._first:
            self._tell(told)
        elif self.chosen != before:
            self.changes.append({"step": self._steps, "to": self.chosen, "why": told})
        self._end(took[self.chosen])

    def _tell(self, why: str) -> None:
        if self._first:
            self.how = f"auto: {why}"

    def _end(self, reference: float | None) -> None:
        self._timed, self._reference, self._first = None, reference, False
        self._recent.clear()
        self._wait_until, self._patience = self._steps + self._patience, 2 * self._patience
        self._set(self.chosen)

    # -- afterwards ----------------------------------------------------------------------------
    def _watch(self, took: float) -> None:
        self._recent.append(took)
        full = len(self._recent) == WINDOW
        if self._reference is None:
            self._reference = median(self._recent) if full else None
            return
        # So slow that waiting for a whole window would cost too much. With one thread there is no such hurry, and more
        # threads would be no quick cure.
        stuck = len(self._recent) >= LEAST_ROUNDS and min(self._last()) > LOST * self._reference
        if self._steps < self._wait_until and not (stuck and self.chosen != 1):
            return
        if stuck or (full and not self._reference / MOVED <= median(self._recent) <= self._reference * MOVED):
            # The number in use has just been timed, and threads that have run before need no warming up.
            self._timed = {n: (self._last() if n == self.chosen else []) for n in self._counts}
            self._throw = dict.fromkeys(self._counts, 0)
            self._met = False

    def _last(self) -> list[float]:
        return list(self._recent)[-LEAST_ROUNDS:]

    @staticmethod
    def _set(number: int | None) -> None:
        if number is not None and number != torch.get_num_threads():
            torch.set_num_threads(number)


def meeting(number: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """How many seconds a short op takes with ``number`` threads; torch is left with that number.

    Undisturbed, the op takes microseconds. Where another process has a CPU that one of the threads needs, it takes
    milliseconds, and a step, which has hundreds of such ops, takes seconds. So this is measured before a step is tried.
    """
    torch.set_num_threads(number)
    x = torch.zeros(number << 15)  # torch gives no thread less than this
    x.add_(1.0)  # starts the threads
    begin, spent, done = clock(), 0.0, 0
    while done < MEETINGS and spent < SPENT:
        x.add_(1.0)
        done, spent = done + 1, clock() - begin
    return spent / done


def parse(wanted: str | int | None) -> str | int | None:
    """``"auto"``, or a number of threads; None stays None.

    Raises:
        BadInput: anything else.
    """
    if wanted is None or wanted == "auto":
        return wanted
    text = str(wanted)
    if isinstance(wanted, bool) or not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST:
        raise BadInput(
            "choosing the number of threads",
            where="threads",
            received=repr(wanted),
            todo=f"give auto, or a whole number from 1 to {MOST}",
        )
    return int(text)


def _environment() -> int | None:
    """The number in ``OMP_NUM_THREADS``; of a list with one for each level of nesting, the first."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if re.fullmatch(r"[0-9]{1,9}", first) and int(first) >= 1 else None


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number != 1)}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
