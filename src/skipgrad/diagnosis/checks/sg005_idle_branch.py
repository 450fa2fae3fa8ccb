"""SG005: branches that do nothing, so that the net is less deep than it looks."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from skipgrad.core import Measurements, SkipRow
from skipgrad.core.units import percent
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._series import finite, share, some

# A hundredth: leaving such a branch out changes x by 1 % and the gradient by 1 %, and even 50 of them together, being
# uncorrelated, by less than 10 %.
IDLE = 0.01
# Over fewer steps a branch that starts at zero on purpose (zero-init, ReZero, LayerScale) looks the same.
FEWEST_STEPS = 5
# A branch that doubles from the first half of the steps to the second is waking up.
WAKING = 2.0
# Half of all branches idle: the net is half as deep as it looks, and the cost is worth a warning.
MANY = 0.5


def judge(measured: Measurements) -> Judgement:
    """Judges branch against skip, forward and backward, over the second half of the steps."""
    names = {s.name for s in measured.graph.skips if s.kind in ("add", "gate")}
    if not names:
        return not_applicable("the net has no add or gate skips")
    rows: dict[str, list[SkipRow]] = defaultdict(list)
    for row in measured.skips:
        if row.skip in names and all(finite(v) for v in (row.branch_rms, row.x_rms, row.branch_norm, row.skip_norm)):
            rows[row.skip].append(row)
    steps = sorted({r.step for every in rows.values() for r in every})
    if len(steps) < FEWEST_STEPS:
        return skipped(
            f"{len(steps)} steps were measured, and it takes {FEWEST_STEPS}: a branch that starts at zero on purpose "
            "looks the same at first"
        )
    middle = steps[len(steps) // 2]
    idle, waking = [], 0
    for name, every in rows.items():
        late = [_weight(r) for r in every if r.step >= middle]
        early = [_weight(r) for r in every if r.step < middle]
        if not late or max(late) >= IDLE:
            continue
        if early and median(late) > 0 and median(late) >= WAKING * median(early):
            waking += 1
        else:
            idle.append((median(late), name))
    idle.sort()
    evidence: dict[str, float | int | str] = {
        "idle_branches": len(idle),
        "waking_branches": waking,
        "branches": len(rows),
        "effective_branches": len(rows) - len(idle),
        "threshold": IDLE,
        "steps": len(steps),
    }
    if not idle:
        return passed(
            f"each of {len(rows)} branches adds more than {percent(IDLE)} to its skip, or is waking up", evidence
        )
    evidence["largest_share"] = idle[-1][0]
    return found(
        f"{len(idle)} of {len(rows)} branches ({some(n for _, n in idle)}) add less than {percent(IDLE)} to their "
        "skip, forward and backward, in every step of the second half: the net works as if they were not there. "
        "Leave them out (it costs nothing and saves their time), or raise their scale if they were meant to work.",
        severity="warning" if len(idle) >= MANY * len(rows) else "info",
        where=[n for _, n in idle],
        evidence=evidence,
        remedies=["skip-calibration"],
    )


def _weight(row: SkipRow) -> float:
    """The larger of what the branch adds to x and what it adds to the gradient, relative to the skip."""
    return max(share(row.branch_rms, row.x_rms), share(row.branch_norm, row.skip_norm))


CHECK = CHECKS.register(
    "SG005",
    Check(
        "SG005",
        "Branches that do nothing",
        "info",
        "A branch adds next to nothing to its skip, neither in the forward pass nor to the gradient, and stays so. "
        "The net is effectively less deep than it looks, and time and memory go into blocks that could be left out.",
        judge,
    ),
)
