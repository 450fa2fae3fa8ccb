"""The figures of overhead.py from the times its processes took, and their table."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """What a step costs relative to one without.

    Attributes:
        median: of the ratios of the rounds.
        low: their lower quartile.
        high: their upper quartile.
        interval: holds the true median in 95 of 100 runs; None below six rounds.
        of_quartiles: the lower quartile of one's times to the lower quartile of the other's: what others on the machine
            take makes times longer, never shorter, so the lower ones tell more.
        of_minima: the same of the shortest times, which in a round of ten steps are the mean of the ten.
        of_sums: the ratio of all rounds together, with whatever a slow moment did to either.
        processor: the median ratio of the processor's seconds; None where they are not known or not what counts.
    """

    median: float
    low: float
    high: float
    interval: tuple[float, float] | None
    of_quartiles: float
    of_minima: float
    of_sums: float
    processor: float | None = None


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value, three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def median_interval(values: list[float]) -> tuple[float, float] | None:
    """The interval between two of the values that holds the true median in at least 95 of 100 samples.

    From the binomial distribution of how many of n values lie below the median; no distribution of the values is
    assumed. None where even the smallest and the largest are not enough (below six values).
    """
    ordered, n = sorted(values), len(values)
    below, rank = 0.0, 0
    while (below := below + math.comb(n, rank) / 2**n) <= 0.025:
        rank += 1
    return (ordered[rank - 1], ordered[n - rank]) if rank else None


def ratio(row: dict[str, Any], base: dict[str, Any], processor: bool) -> Ratio:
    """A variant's seconds, round by round, relative to its baseline's.

    Args:
        row: has ``wall`` and ``processor``, the seconds of one step for each round.
        base: the same of the baseline, in the same rounds.
        processor: whether the processor's seconds count.
    """
    ratios = [a / b for a, b in zip(row["wall"], base["wall"], strict=True)]
    low, median, high = quartiles(ratios)
    return Ratio(
        median,
        low,
        high,
        median_interval(ratios),
        quartiles(row["wall"])[0] / quartiles(base["wall"])[0],
        min(row["wall"]) / min(base["wall"]),
        sum(row["wall"]) / sum(base["wall"]),
        statistics.median(a / b for a, b in zip(row["processor"], base["processor"], strict=True))
        if processor
        else None,
    )


def verdict(found: Ratio, goal: float | None) -> str:
    """Whether a goal is met, missed, or left open by the spread of the rounds."""
    if goal is None:
        return ""
    low, high = found.interval or (-math.inf, math.inf)
    word = "met" if high <= goal else "missed" if low > goal else "open"
    return f"{goal:g} {word}"


def ratios(group: dict[str, Any], processor: bool) -> dict[str, Ratio]:
    """The ratios of a group's rows, by variant; one whose baseline failed has none."""
    rows = {row["variant"]: row for row in group["rows"]}
    return {
        name: ratio(row, rows[row["baseline"]], processor)
        for name, row in rows.items()
        if name != row["baseline"] and row["baseline"] in rows and name != "plain"
    }


_HEAD = (
    f"  {'':22s} {'step, ms':>9s}  {'median':>7s} [quartiles]     "
    f"{'quart.':>6s} {'min.':>6s} {'sums':>6s} {'proc.':>6s}  {'goal':13s}"
)


def times_table(net: str, groups: dict[str, dict[str, Any]], processor: bool) -> list[str]:
    """The lines of one net's times.

    Args:
        net: its words.
        groups: by name, what the processes answered.
        processor: whether the processor's seconds count.
    """
    weights = next((g["weights"] for g in groups.values() if g.get("weights")), 0)
    lines = [f"{net}; {weights / 1e6:.2f} M weights", _HEAD]
    for name, group in groups.items():
        lines.append(f" {name}" + (f" ({group['versions']})" if group.get("versions") else ""))
        found = ratios(group, processor)
        for row in group["rows"]:
            step = f"  {row['variant']:22s} {1e3 * statistics.median(row['wall']):9.1f}"
            r = found.get(row["variant"])
            if r is None:
                lines.append(step)
                continue
            cpu = f"{r.processor:6.3f}" if r.processor is not None else f"{'-':>6s}"
            lines.append(
                f"{step}  {r.median:6.3f}x [{r.low:.3f}-{r.high:.3f}]  {r.of_quartiles:6.3f} {r.of_minima:6.3f} "
                f"{r.of_sums:6.3f} {cpu}  {verdict(r, row['goal']):13s} {row['gave']}".rstrip()
            )
        lines += [f"  {variant:22s} {_why(why)}" for variant, why in group["failed"].items()]
    return lines


def memory_table(net: str, rows: dict[str, dict[str, Any]], goal: float) -> list[str]:
    """The lines of one net's memory.

    Args:
        net: its words.
        rows: by variant ``live`` (bytes), ``resident`` (a list of bytes), ``before`` (a list of bytes); or ``failed``.
        goal: the ratio that a variant named "ledger" is not to exceed.
    """
    lines = [
        net,
        f"  {'':22s} {'tensors, MB':>12s} {'ratio':>8s} {'process, MB':>12s} {'[from-to]':>16s} {'ratio':>8s}",
    ]
    plain = rows.get("plain", {})
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"  {name:22s} {_why(row['failed'])}")
            continue
        cells = [f"  {name:22s}", f"{row['live'] / 1e6:12.2f}", _of(row["live"], plain.get("live"))]
        if row["resident"]:
            middle = statistics.median(row["resident"])
            spread = f"[{min(row['resident']) / 1e6:.1f}-{max(row['resident']) / 1e6:.1f}]"
            base = statistics.median(plain["resident"]) if plain.get("resident") else None
            cells += [f"{middle / 1e6:12.1f}", f"{spread:>16s}", _of(middle, base)]
        if name.startswith("ledger") and plain.get("live"):
            cells.append(f" {goal:g} {'met' if row['live'] <= goal * plain['live'] else 'missed'}")
        lines.append(" ".join(cells))
    if plain.get("before"):
        lines.append(f"  (the process has {statistics.median(plain['before']) / 1e6:.0f} MB before there is a model)")
    return lines


def _why(why: str) -> str:
    return why if why == "not installed" else f"failed: {why}"


def _of(value: float, base: float | None) -> str:
    return f"{value / base:7.4f}x" if base else f"{'-':>8s}"
