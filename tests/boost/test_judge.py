"""The arithmetic of the verdict, on made-up trials."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from skipgrad.boost.entry import Entry, Plan
from skipgrad.boost.judge import Contestant, contestant, time_to
from skipgrad.boost.outcome import sentence_of
from skipgrad.boost.spread import interval, middle
from skipgrad.boost.target import Target, choose, cut
from skipgrad.core import BadInput, LossPoint, Recipe
from skipgrad.train import TrialResult

pytest.importorskip("scipy")


def entry(who: str, seed: int, losses: list[float], pace: float = 1.0, state: str = "done") -> Entry:
    """A trial of these losses, each step of which took ``pace`` seconds."""
    trial = replace(Recipe(steps=len(losses), seed=seed, lr=0.1).trial(seed, None), state=state)
    points = tuple(LossPoint(seed, i, loss, pace * (i + 1)) for i, loss in enumerate(losses))
    return Entry(Plan(who, "judge", str(seed), seed, {"lr": 0.1}), TrialResult(trial, points))


def falling(by: float, steps: int = 40) -> list[float]:
    return [math.exp(-by * i / steps) for i in range(steps)]


SEEDS = (1, 2, 3, 4, 5)
BASE = [entry("baseline", s, falling(2.0)) for s in SEEDS]
TARGET = Target(0.3, "typed")


def judged(entries: list[Entry], target: Target = TARGET) -> Contestant:
    return contestant("x", entries, entries, BASE, target, {"lr": 0.1})


def test_time_to_a_target_is_that_of_the_smoothed_loss():
    result = entry("x", 0, [3.0, 2.0, 1.0, 0.0, 0.0], pace=2.0).result
    assert time_to(result, 1.0) == (4, 8.0)  # (2 + 1 + 0) / 3
    assert time_to(result, -1.0) == (math.inf, math.inf)
    diverged = entry("x", 0, [3.0, 0.0, 0.0, 0.0, math.nan], state="diverged").result
    assert time_to(diverged, 1.0) == (math.inf, math.inf)


def test_fewer_steps_that_are_slower_are_no_gain():
    fast = judged([entry("x", s, falling(4.0)) for s in SEEDS])
    assert fast.state == "helped"
    assert fast.time_ratio == fast.steps_ratio < 0.6
    assert fast.failures == 0
    slow = judged([entry("x", s, falling(4.0), pace=3.0) for s in SEEDS])
    assert slow.steps_ratio == fast.steps_ratio
    assert slow.time_ratio == pytest.approx(3 * fast.time_ratio)
    assert slow.state == "worse"


def test_failures_count_as_infinitely_long():
    mixed = judged([entry("x", s, falling(4.0) if s < 4 else falling(0.1)) for s in SEEDS])
    assert mixed.failures == 2
    assert mixed.time_ratio is not None
    assert mixed.interval[1] is None
    assert mixed.state == "no change"
    assert "2 of 5 runs never reach" in mixed.reason
    most = judged([entry("x", s, falling(4.0) if s < 3 else falling(0.1)) for s in SEEDS])
    assert most.time_ratio is None
    assert most.state == "worse"


def test_faster_and_then_worse_is_told():
    # Below the target at once, and no further; the baseline goes on.
    flat = judged([entry("x", s, [0.9, 0.6, 0.2] + [0.29] * 37) for s in SEEDS])
    assert flat.state == "helped"
    assert "at equal time its loss is higher" in flat.reason


def test_one_seed_shows_nothing():
    one = contestant("x", [], [entry("x", 1, falling(4.0))], BASE, TARGET, {})
    assert one.interval is None
    assert one.state == "no change"


def test_medians_and_intervals():
    assert middle([]) is None
    assert middle([1.0, math.inf, math.inf]) is None
    assert interval([1.0]) is None
    assert interval([2.0, 2.0]) == (2.0, 2.0)
    low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert 1.0 <= low <= 2.0
    assert 4.0 <= high <= 5.0
    assert interval([1.0, 2.0, math.inf]) == (1.0, None)


def test_the_target_is_that_of_three_quarters_of_the_budget():
    target = choose(BASE, BASE, None, 1.0)
    at = math.fsum(falling(2.0)[27:30]) / 3
    assert target.loss == pytest.approx(at)
    assert cut(BASE[0].result, 0.75).losses[-1].step == 29


def test_a_plateau_is_no_target():
    flat = [entry("baseline", s, [1.0 + 0.01 * (-1) ** i for i in range(40)]) for s in SEEDS]
    assert "does not train" in choose(flat, flat, None, 1.0).reason
    near = choose(BASE, BASE, None, 0.24)
    assert near.loss is None
    assert "unigram" in near.reason
    with pytest.raises(BadInput, match="plateau"):
        choose(BASE, BASE, 0.235, 0.24)
    with pytest.raises(BadInput, match="never reaches"):
        choose(BASE, BASE, 0.01, 1.0)
    assert choose(BASE, BASE, 0.5, None).loss == 0.5


def test_the_sentence():
    base = contestant("baseline", BASE, BASE, BASE, TARGET, {})
    same = replace(judged(BASE), name="same", seconds=1.0, total_seconds=2.0)
    assert sentence_of(TARGET, base, [same], None).startswith(
        "No cure beats your tuned baseline; the cheapest way to its loss was same (2.0 s, 1.0 s of them for tuning"
    )
    dear = replace(same, total_seconds=1e6)
    assert "was the tuned baseline itself" in sentence_of(TARGET, base, [dear], None)
    refused = Contestant("add-skips", "refused", "no place")
    assert "Every contestant refused" in sentence_of(TARGET, base, [refused], None)
    none = Target(None, "the tuned baseline does not train")
    helped = replace(same, state="helped", final_loss=0.2)
    assert "same trains: it ends at 0.2" in sentence_of(none, base, [helped], "same")
    assert "no cure trains it" in sentence_of(none, base, [refused], None)
    still = [entry("baseline", s, [2.3] * 40) for s in range(5)]
    some = [entry("some", s, falling(0.9) if s else [2.3] * 40) for s in range(5)]
    told = contestant("some", some, some, still, none, {})
    assert told.state == "no change"
    assert told.reason == "it trains in 4 of 5 runs, and its loss is lower than the baseline's in 4"
    assert "; some: it trains in 4 of 5 runs" in sentence_of(none, base, [told], None)
    assert contestant("still", still, still, still, none, {}).reason == "it does not train either"


def test_an_entry_comes_back_as_it_was():
    one = entry("zero-init", 3, [1.0, math.nan], state="diverged")
    again = Entry.of("zero-init", "judge", one.attrs(), 3)
    assert again.plan == one.plan
    assert again.result.trial.state == "diverged"
    assert again.result.trial.remedy == "zero-init"
    assert math.isnan(again.result.losses[1].loss)
    assert again.score == one.score == 1e30
