"""The goals of the race, each reached, missed or not run, from the results that are stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from time_to_target.workloads import RACES, Race

TUNED, UNTUNED = "result.json", "untuned.json"
# Who is prescribed without a search.
PRESCRIBED = "auto"

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        says: what is to be reached.
        needs: how many workloads must show it; a share of those that ran where it is below 1.
        of: the workloads that may show it.
        shows: whether a workload's stored results do; None where they cannot tell (no target, not run).
        file: which results it is judged by.
    """

    says: str
    needs: float
    of: Callable[[Race], bool]
    shows: Callable[[Mapping[str, Any]], bool | None]
    file: str = TUNED


def _ran(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [c for c in result["contestants"] if c["state"] != "refused"]


def _untuned(result: Mapping[str, Any]) -> bool | None:
    one = next((c for c in _ran(result) if c["name"] == PRESCRIBED), None)
    if one is None or result["target"]["loss"] is None:
        return None
    high = (one["interval"] or (None, None))[1]
    return high is not None and high <= 1.3


def _cost(result: Mapping[str, Any]) -> bool | None:
    own = result["baseline"]["total_seconds"]
    if own is None:
        return None
    there = [c for c in _ran(result) if c["total_seconds"] is not None and 2 * c["failures"] < c["runs"]]
    return any(c["total_seconds"] <= 0.25 * own for c in there)


def _faster(bound: float, *, as_good: bool = False) -> Callable[[Mapping[str, Any]], bool | None]:
    def shows(result: Mapping[str, Any]) -> bool | None:
        if result["target"]["loss"] is None:
            return None
        for c in _ran(result):
            high = (c["interval"] or (None, None))[1]
            loss, other = c["loss_at_equal_time"], c["baseline_final_loss"]
            good = not as_good or (loss is not None and other is not None and loss <= 1.01 * other)
            if high is not None and high <= bound and good:
                return True
        return False

    return shows


def _close(result: Mapping[str, Any]) -> bool | None:
    """Whether the prescribed one is within 20 % of the fastest, the baseline among them."""
    one = next((c for c in _ran(result) if c["name"] == PRESCRIBED), None)
    if one is None or result["target"]["loss"] is None:
        return None
    best = min([1.0, *(c["time_ratio"] for c in _ran(result) if c["time_ratio"] is not None)])
    return one["time_ratio"] is not None and one["time_ratio"] <= 1.2 * best


GOALS = (
    Goal(
        f"untuned: {PRESCRIBED} at a tenth, once and ten times the typed rate within 1.3 × the tuned baseline's time",
        0.9,
        lambda race: True,
        _untuned,
        UNTUNED,
    ),
    Goal("tuning included: the target at a quarter of the tuned baseline's total cost", 6, lambda race: True, _cost),
    Goal("tuned, sick nets: the best cure within .5 × the time", 3, lambda race: race.sick, _faster(0.5)),
    Goal(
        "tuned, healthy deep nets: within .7 × the time, loss at equal time no worse",
        2,
        lambda race: race.deep and not race.sick,
        _faster(0.7, as_good=True),
    ),
    Goal(f"tuned: {PRESCRIBED} within 20 % of the fastest, the baseline among them", 2 / 3, lambda race: True, _close),
)


def stored(out: Path, file: str) -> dict[str, dict[str, Any]]:
    """The results of a kind, by workload; those that are not there are left out."""
    found = {name: out / name / file for name in RACES}
    return {name: json.loads(p.read_text(encoding="utf-8")) for name, p in found.items() if p.exists()}


def table(results: Mapping[str, Results]) -> list[str]:
    """A line a goal. ``results``: kind of file → workload → what `BoostResult.to_dict` gave.

    The bound must lie beyond the whole interval, not beyond the median alone.
    """
    lines = ["\ngoals (the upper end of the 95 % interval counts; in the last the medians do)"]
    for goal in GOALS:
        asked = [name for name, race in RACES.items() if goal.of(race)]
        known = {n: goal.shows(results[goal.file][n]) for n in asked if n in results[goal.file]}
        told = {n: v for n, v in known.items() if v is not None}
        yes = [n for n, v in told.items() if v]
        needed = goal.needs if goal.needs >= 1 else goal.needs * len(told)
        left = len(asked) - len(known)
        if not known:
            state = "not run"
        elif len(yes) >= needed and told and (goal.needs >= 1 or not left):
            state = "reached"
        else:
            state = "missed" if not left else "missed so far"
        want = f"{goal.needs:g} of {len(asked)}" if goal.needs >= 1 else f"{goal.needs:.0%} of {len(asked)}"
        more = f", {left} not run" if left else ""
        none = [n for n, v in known.items() if v is None]
        more += f", no target or refused on {', '.join(none)}" if none else ""
        lines.append(f"  {state:<13} {goal.says}: {len(yes)} ({want} wanted{more}) {', '.join(yes)}".rstrip())
    return lines
