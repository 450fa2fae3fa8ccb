"""What each contestant did, by its runs on fresh seeds beside the tuned baseline's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from skipgrad.boost.entry import BASELINE, Entry
from skipgrad.boost.spread import interval, middle
from skipgrad.boost.target import Target
from skipgrad.core.run import Cure, CureState
from skipgrad.core.units import number
from skipgrad.race import best_smoothed, final_loss, first_at, smoothed, trains, window
from skipgrad.train import TrialResult

Ends = tuple[float | None, float | None]
NEITHER = "it does not train either"


@dataclass(frozen=True)
class Contestant:
    """One contestant of an honest race. Ratios are to the tuned baseline on the same seed, below 1 is faster.

    Attributes:
        name: the remedy, ``"baseline"`` or ``"baseline, untuned"``.
        state: as of a `Cure`; of the baseline ``"baseline"``.
        reason: one sentence with the figures that decided.
        time_ratio: seconds to the target, median over the runs; None where the median run fails.
        interval: its bootstrap interval; an end is None where it is infinite.
        steps_ratio: the same in steps.
        steps_interval: its interval.
        seconds_to_target: median over the runs.
        steps_to_target: median over the runs.
        trials: how many trials it tuned with.
        seconds: what these took.
        runs: how many runs judge it.
        failures: how many of them never reached the target (or diverged, where there is no target).
        tuning_failures: how many of its tuning trials diverged or refused.
        final_loss: median of the last tenth of the steps.
        loss_at_equal_time: its smoothed loss when the baseline's run of the same seed ended, or at its own end where
            that came first; median over the runs.
        baseline_final_loss: the baseline's smoothed loss then.
        total_seconds: tuning and one run to the target; None where it fails.
        settings: what was chosen.
        lines: Python to paste that applies the remedy.
        other_machine: how many runs were on another machine than the baseline's of the same seed: their seconds are not
            compared.
    """

    name: str
    state: str
    reason: str = ""
    time_ratio: float | None = None
    interval: Ends | None = None
    steps_ratio: float | None = None
    steps_interval: Ends | None = None
    seconds_to_target: float | None = None
    steps_to_target: float | None = None
    trials: int = 0
    seconds: float = 0.0
    runs: int = 0
    failures: int = 0
    tuning_failures: int = 0
    final_loss: float | None = None
    loss_at_equal_time: float | None = None
    baseline_final_loss: float | None = None
    total_seconds: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    lines: str = ""
    other_machine: int = 0

    def cure(self, best: float | None, baseline: Contestant, patient_best: float | None, trained: bool) -> Cure:
        """Its record for the run file and the ranking."""
        assert self.state in ("helped", "no change", "worse", "refused")
        state: CureState = self.state  # type: ignore[assignment]
        return Cure(
            self.name,
            state,
            self.reason,
            final_loss=self.final_loss,
            patient_final_loss=baseline.final_loss,
            steps_ratio=self.steps_ratio,
            seconds_ratio=self.time_ratio,
            steps_spread=_both(self.steps_interval),
            seconds_spread=_both(self.interval),
            best_loss=best,
            patient_best_loss=patient_best,
            rate=self.settings.get("lr"),
            patient_rate=baseline.settings.get("lr"),
            seeds=self.runs,
            lines=self.lines,
            patient_trains=trained,
        )


def time_to(result: TrialResult, target: float) -> tuple[float, float]:
    """Steps and seconds until the smoothed loss is at the target; infinite where it never is."""
    at = None if result.diverged else first_at(result, target)
    if at is None:
        return math.inf, math.inf
    point = result.losses[at]
    return point.step + 1.0, point.seconds


def contestant(
    name: str,
    tuning: Sequence[Entry],
    judged: Sequence[Entry],
    baseline: Sequence[Entry],
    target: Target,
    settings: dict[str, Any],
) -> Contestant:
    """Judges one contestant.

    Args:
        name: its name.
        tuning: its tuning trials.
        judged: its runs on fresh seeds.
        baseline: the tuned baseline's on the same seeds.
        target: what is raced to.
        settings: what it was judged with.
    """
    theirs = {e.plan.seed: e for e in baseline}
    both = [(e, theirs[e.plan.seed]) for e in judged if e.plan.seed in theirs]
    pairs = [(e.raced, b.raced) for e, b in both]
    # Seconds of two machines are not compared.
    same = [e.machine == b.machine for e, b in both]
    beside = [pair for pair, fits in zip(pairs, same, strict=True) if fits]
    steps: list[float] = []
    times: list[float] = []
    reached: list[tuple[float, float]] = []
    failures = sum(r.diverged or not r.losses for r, _ in pairs)
    if target.loss is not None:
        reached = [time_to(r, target.loss) for r, _ in pairs]
        against = [time_to(b, target.loss) for _, b in pairs]
        failures = sum(math.isinf(s) for s, _ in reached)
        steps = _ratios([s for s, _ in reached], [s for s, _ in against])
        timed = [(t, u) for (_, t), (_, u), fits in zip(reached, against, same, strict=True) if fits]
        times = _ratios([t for t, _ in timed], [u for _, u in timed])
    seconds = math.fsum(e.seconds for e in tuning)
    to_target = middle([t for _, t in reached])
    ours = Contestant(
        name,
        "baseline",
        time_ratio=middle(times),
        interval=interval(times),
        steps_ratio=middle(steps),
        steps_interval=interval(steps),
        seconds_to_target=to_target,
        steps_to_target=middle([s for s, _ in reached]),
        trials=len(tuning),
        seconds=seconds,
        runs=len(pairs),
        other_machine=len(same) - sum(same),
        failures=failures,
        tuning_failures=sum(bool(e.refused) or e.result.diverged for e in tuning),
        final_loss=middle([final_loss(r) for r, _ in pairs]),
        loss_at_equal_time=middle([_at(r, b.losses[-1].seconds) for r, b in beside if b.losses]),
        baseline_final_loss=middle([_at(b, math.inf) for _, b in pairs]),
        total_seconds=None if to_target is None else seconds + to_target,
        settings=settings,
        lines=next((e.result.lines for e in judged if e.result.lines), ""),
    )
    if name == BASELINE:
        return ours
    state, reason = _verdict(ours, pairs, target)
    return Contestant(**{**ours.__dict__, "state": state, "reason": reason})


def best_loss(judged: Sequence[Entry]) -> float | None:
    """The median over the runs of the best smoothed loss."""
    return middle([best_smoothed(e.raced)[1] for e in judged])


def _verdict(one: Contestant, pairs: Sequence[tuple[TrialResult, TrialResult]], target: Target) -> tuple[str, str]:
    if target.loss is None:
        ours = sum(trains(r) for r, _ in pairs)
        better = sum(_at(r, math.inf) < _at(b, math.inf) for r, b in pairs)
        if 2 * ours >= len(pairs) == better > 0:
            return "helped", "it trains where the baseline does not, in every run with a lower loss"
        if not ours:
            return "no change", NEITHER
        many = len(pairs)
        return "no change", f"it trains in {ours} of {many} runs, and its loss is lower than the baseline's in {better}"
    failed = f"{one.failures} of {one.runs} runs never reach the target"
    if one.interval is None:
        return "no change", f"one run shows nothing{f'; {failed}' if one.failures else ''}"
    low, high = one.interval
    ends = f"[{number(low) if low is not None else 'never'}–{number(high) if high is not None else 'never'}]"
    if one.time_ratio is None:
        return "worse", failed
    told = f"{number(one.time_ratio)} × the baseline's time {ends}"
    if one.failures:
        told += f"; {failed}"
    if high is not None and high < 1:
        later = _later(one)
        return "helped", told + (f"; but {later}" if later else "")
    if low is None or low > 1:
        return "worse", told
    return "no change", told


def _later(one: Contestant) -> str:
    """What speaks against a cure that is faster to the target; empty when nothing does."""
    loss, other = one.loss_at_equal_time, one.baseline_final_loss
    if loss is not None and other is not None and loss > other * (1.01 if other > 0 else 0.99):
        return f"at equal time its loss is higher, {number(loss)} against {number(other)}"
    return ""


def _at(result: TrialResult, seconds: float) -> float:
    """The smoothed loss at a time of the clock; infinite when it diverged or had none by then."""
    values = smoothed(result)
    if result.diverged or not values:
        return math.inf
    wide = window(result.trial.steps)
    within = [v for v, p in zip(values, result.losses[wide - 1 :], strict=False) if p.seconds <= seconds]
    return within[-1] if within else math.inf


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Run by run; infinite where only the other reached it, 0 where only we did, left out where nobody did."""
    out = []
    for a, b in zip(ours, theirs, strict=True):
        if math.isinf(a) and math.isinf(b):
            continue
        out.append(math.inf if math.isinf(a) else 0.0 if math.isinf(b) else a / b)
    return out


def _both(ends: Ends | None) -> tuple[float, float] | None:
    return None if ends is None or ends[0] is None or ends[1] is None else (ends[0], ends[1])
