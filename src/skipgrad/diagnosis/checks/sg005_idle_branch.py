"""SG005: branches that do nothing, so that the net is less deep than it looks."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from skipgrad.core import Measurements, SkipRow
from skipgrad.core.units import percent
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._learning import learning
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._series import deepest_nest, finite, share

# A hundredth: leaving such a branch out changes x by 1 % and the gradient by 1 %, and even 50 of them together, being
# uncorrelated, by less than 10 %.
IDLE = 0.01
# Of a level of a U, relative to its skip: U-Nets that use theirs stood at .15 and more (benchmarks/clinic), lazy ones
# that
# copy their input at .0003 to .05. A quarter of a percent of the gradient's energy.
LEVEL = 0.05
# Over fewer steps a branch that starts at zero on purpose (zero-init, ReZero, LayerScale) looks the same.
FEWEST_STEPS = 5
# A branch that doubles from the first half of the steps to the second is waking up.
WAKING = 2.0
# … unless it is so far down that it would have to double another seven times.
ASLEEP = 1e-4
# One that has grown tenfold since the first step can learn, and is no more than half asleep: LayerScale's 1e-6 grows
# ten-thousandfold in sixty steps of AdamW, and stays where it is when it is frozen.
GROWN = 10.0
# Half of all branches idle: the net is half as deep as it looks, and the cost is worth a warning.
MANY = 0.5


def judge(measured: Measurements) -> Judgement:
    """Judges branch against skip, forward and backward, over the second half of the steps; of a U, backward alone."""
    adds = {s.name for s in measured.graph.skips if s.kind in ("add", "gate")}
    # What a concatenation's branch is worth shows in the gradient: the layer behind it takes as much of it as it likes.
    nest = deepest_nest([s for s in measured.graph.skips if s.long and s.kind == "concat"])
    joins = {s.name for s in nest} if len(nest) > 1 else set()
    # The operand of a gate is what the gate has not yet shut off, so that its size says nothing.
    gates = {s.name for s in measured.graph.skips if s.kind == "gate"}
    if not adds and not joins:
        return not_applicable("the net has neither add or gate skips nor long concat skips in each other")
    rows: dict[str, list[SkipRow]] = defaultdict(list)
    for row in measured.skips:
        figures = (row.branch_norm, row.skip_norm, *((row.branch_rms, row.x_rms) if row.skip in adds else ()))
        if row.skip in adds | joins and all(finite(v) for v in figures):
            rows[row.skip].append(row)
    steps = sorted({r.step for every in rows.values() for r in every})
    if len(steps) < FEWEST_STEPS:
        return skipped(
            f"{len(steps)} steps were measured, and it takes {FEWEST_STEPS}: a branch that starts at zero on purpose "
            "looks the same at first"
        )
    idle, waking = _idle(rows, steps, joins, gates)
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
    inner = [s.name for s in nest if s.name in {n for _, n in idle}]
    own = [n for _, n in idle if n in adds]
    well = learning(measured).well
    said = _adds(own, len(rows.keys() & adds), idle[-1][0]) if own else ""
    if inner:
        said += (" " if said else "") + _levels(inner[0], len(inner), len(nest), well)
    many = len(own) >= MANY * len(rows.keys() & adds) if own else False
    return found(
        said,
        severity="warning" if many or (inner and not well) else "info",
        where=[n for _, n in idle],
        evidence=evidence,
        remedies=["skip-calibration"] if own else [],
    )


def _idle(
    rows: dict[str, list[SkipRow]], steps: list[int], joins: set[str], gates: set[str]
) -> tuple[list[tuple[float, str]], int]:
    """Share and name of the idle branches, the least first; and how many are waking up.

    Of joins (levels of a U) and gates the gradient alone is looked at.
    """
    middle = steps[len(steps) // 2]
    backward = joins | gates
    idle, waking = [], 0
    for name, every in rows.items():
        weight = _gradient if name in backward else _weight
        late = [weight(r) for r in every if r.step >= middle]
        early = [weight(r) for r in every if r.step < middle]
        if not late or (median(late) >= LEVEL if name in joins else max(late) >= IDLE):
            continue
        now = median(late)
        doubled = early and now > 0 and now >= WAKING * median(early)
        # What it adds, not what comes back: a branch scaled by 1e-6 gets as little gradient, and gets more as it grows.
        if (doubled and now > ASLEEP) or (name not in backward and _grown(every, middle)):
            waking += 1
        else:
            idle.append((now, name))
    idle.sort()
    return idle, waking


def _grown(every: list[SkipRow], middle: int) -> bool:
    """Whether the branch adds ten times what it added at first."""
    start = [share(r.branch_rms, r.x_rms) for r in every if r.step == every[0].step]
    late = [share(r.branch_rms, r.x_rms) for r in every if r.step >= middle]
    return median(late) > 0 and median(late) >= GROWN * median(start)


def _adds(names: list[str], total: int, largest: float) -> str:
    return (
        f"{len(names)} of {total} branches ({some(names)}) add less than {percent(IDLE)} to their skip, forward and "
        f"backward, in every step of the second half ({percent(largest)} at most), and do not grow: the net works "
        "as if they "
        "were not there. See whether their scale is frozen or far too small, and let it learn or raise it; if they "
        "are meant "
        "to be so, leave them out and save their time."
    )


def _levels(outermost: str, idle: int, total: int, well: bool) -> str:
    return (
        f"At {idle} of {total} nested long skips less than {percent(LEVEL**2)} of the gradient's energy comes from the "
        "levels below "
        f"(from {some([outermost])} on inwards): the net works as if they were not there. "
        + (
            "It learns its task without them: ask whether that task needs them, and look at the loss without them."
            if well
            else "Put a norm into the inner blocks, or leave the outermost skip out for a while, and measure again."
        )
    )


def _gradient(row: SkipRow) -> float:
    """What of the gradient comes from the levels below, relative to what comes along the skip."""
    return share(row.branch_norm, row.skip_norm)


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
        ("steps", "skips"),
    ),
)
