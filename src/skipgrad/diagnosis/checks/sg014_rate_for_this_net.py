"""SG014: a rate that is too low or too high for this net, by how much a step changes what its branches do."""

from __future__ import annotations

import math
from statistics import median

from skipgrad.core import ChangeRow, Measurements
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._cost import advice, graded, loss_to_blame

# D at the best of five rates, each ten times the one before, lay at 0.09–0.49 on six small nets; at a tenth of the best
# at 0.009–0.15, at a hundredth at 0.001–0.04 (benchmarks/results/2026-11-29-change.txt).
LOW = 0.05
# At ten times the best it lay at 0.7–13 on four of the six. Where every branch ends in a batch norm it comes back to
# 0.3–0.6 within some steps, so that a high rate is missed there.
HIGH = 0.6
# What self-tune holds it at.
AIM = 0.25
# A factor is told within these bounds: D is not proportional to the rate over more of a range.
MOST = 100.0
FEWEST = 3
# Looks at a rate below half of the highest, in a warm-up or at the end of a schedule, say nothing of that rate.
NEAR_TOP = 0.5


def judge(measured: Measurements) -> Judgement:
    """Judges the median change of a step, over the looks near the highest rate."""
    if not measured.graph.count("add"):
        return not_applicable("the net has no add skips, so that there are no branches to change against a stream")
    if not measured.changes:
        return skipped(
            "what a step changes of the branches was not measured; skipgrad check does it, and so does "
            "skipgrad.remedies.changes(…, told=ledger.change_at)"
        )
    top = max(r.rate for r in measured.changes)
    near = [r for r in measured.changes if r.rate >= NEAR_TOP * top and r.rate > 0]
    if any(not math.isfinite(r.change) for r in near):
        return skipped("a step changed the branches by what is no number; SG010 looks for where it came first")
    if len(near) < FEWEST:
        return skipped(f"{len(near)} looks at the full rate are too few; at least {FEWEST} are needed")
    # At the highest rate: a step's change is proportional to its rate.
    change = median(r.change * top / r.rate for r in near)
    return _judged(measured, near, change, top)


def _judged(measured: Measurements, near: list[ChangeRow], change: float, rate: float) -> Judgement:
    factor = min(MOST, max(1 / MOST, AIM / change)) if change > 0 else MOST
    evidence = {
        "change": change,
        "rate": rate,
        "factor": factor,
        "aim": AIM,
        "threshold": LOW if change < AIM else HIGH,
    }
    if LOW <= change <= HIGH:
        return passed(f"a step changes the branches by {number(change)} of their streams, all together", evidence)
    low = change < LOW
    worst = max(near, key=lambda r: r.most_change)
    told = (
        f"At a rate of {rate:.3g} a step changes what the branches do by {number(change)} of their streams, all "
        f"together (‖ΔF‖/‖x‖ over {near[-1].skips} branches); {LOW:g} to {HIGH:g} is usual where nets learn. The rate "
        f"is too {'low' if low else 'high'} for this net: multiply it by about {number(_round(factor))}."
    )
    if loss_to_blame(measured):
        return passed(f"{told} But next to nothing comes back from the loss itself (SG012).", evidence)
    return found(
        f"{told} {advice(measured, 'Or let self-tune steer it.')}",
        severity=graded(measured, "warning"),
        where=[] if low else [worst.most],
        evidence=evidence,
        remedies=() if graded(measured, "warning") == "info" else ("self-tune",),
    )


def _round(factor: float) -> float:
    """One digit: more would promise more than is known."""
    return float(f"{factor:.1g}")


CHECK = CHECKS.register(
    "SG014",
    Check(
        "SG014",
        "A rate that does not fit this net",
        "warning",
        "How much one step of the optimizer changes what the branches do, measured against their streams "
        "(D = Σ‖ΔF‖/‖x‖). What a rate does depends on the optimizer, the net and its depth, and D is what is left of "
        "that: nets that learn well stand at 0.05 to 0.6. Far below, the rate is too low; far above, too high.",
        judge,
    ),
)
