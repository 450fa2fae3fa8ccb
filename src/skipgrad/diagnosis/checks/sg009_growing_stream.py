"""SG009: the residual stream grows from block to block, faster than independent branches would make it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from skipgrad.core import Measurements, Skip
from skipgrad.core.units import number
from skipgrad.diagnosis._check import CHECKS, Check, Judgement, found, not_applicable, passed, skipped
from skipgrad.diagnosis._cost import advice, excessive, graded, worth_trying
from skipgrad.diagnosis._names import some
from skipgrad.diagnosis._prescribe import mend_branches
from skipgrad.diagnosis._series import medians, runs, share, slope

# Shorter runs do not tell exponential growth from the other kind.
SHORTEST_RUN = 6
# Judged is the second half of a run: last / middle. L branches of equal size make x grow as √L when they are
# independent (a factor of √2 over the second half) and as L when they all point the same way (a factor of 2), however
# small the embedding that they start from. Twice that worst healthy case means that the growth feeds on itself.
GROWING = 4.0
# A ResNet-56 without norm at He's init grows by √2 a block or more, 27 blocks: 2^(13/2) = 90 over the second half. At a
# rate of .05 such nets ended at 90 % error or NaN (claim D13).
RUNAWAY = 50.0


@dataclass(frozen=True)
class Growth:
    """How x grows along one run of skips.

    Attributes:
        names: the skips, in order.
        rms: of x at each, median over the steps.
    """

    names: tuple[str, ...]
    rms: tuple[float, ...]

    @property
    def late(self) -> float:
        """Last / middle."""
        return share(self.rms[-1], self.rms[(len(self.rms) - 1) // 2])

    @property
    def whole(self) -> float:
        """Last / first."""
        return share(self.rms[-1], self.rms[0])

    @property
    def per_block(self) -> float:
        """Fit of the second half on a log scale."""
        half = self.rms[(len(self.rms) - 1) // 2 :]
        return math.exp(slope(math.log(v) for v in half if v > 0))


def judge(measured: Measurements) -> Judgement:
    """Judges `x_rms` along each run of add skips, also of long ones around others, and along its parts of one shape."""
    stretches = [part for run in _towers(measured) for part in _parts(run)]
    if not stretches:
        return not_applicable(f"the net has no {SHORTEST_RUN} add skips in a row, neither short nor long ones")
    rms = medians(measured.skips, lambda r: r.skip, lambda r: r.x_rms)
    grown = []
    for part in stretches:
        seen = [(s.name, rms[s.name]) for s in part if rms.get(s.name, 0.0) > 0]
        if len(seen) >= SHORTEST_RUN:
            grown.append(Growth(tuple(n for n, _ in seen), tuple(v for _, v in seen)))
    if not grown:
        return skipped("the size of x at the skips was not measured; watch a forward and a backward pass")
    worst = max(grown, key=lambda g: g.late)
    evidence: dict[str, float | int | str] = {
        "second_half_growth": worst.late,
        "threshold": GROWING,
        "growth_per_block": worst.per_block,
        "last_to_first": worst.whole,
        "blocks": len(worst.names),
        "first_rms": worst.rms[0],
        "last_rms": worst.rms[-1],
    }
    if worst.late <= GROWING:
        return passed(
            f"x grows {number(worst.late)}× over the second half of {len(worst.names)} skips; up to "
            f"{number(GROWING)}× is what branches of equal size can do",
            evidence,
        )
    away = worst.late > RUNAWAY
    return found(
        f"x grows by a factor of {number(worst.per_block)} per block, {number(worst.whole)}× over {len(worst.names)} "
        f"skips ({some([worst.names[0]])} to {some([worst.names[-1]])}), and ever faster: each branch answers the "
        "larger x "
        f"with a larger F(x). {advice(measured, mend_branches(measured), well=False if away else None)}",
        severity=excessive(measured, "error") if away else graded(measured, "warning"),
        where=worst.names[::-1],
        evidence=evidence,
        remedies=("zero-init", "skip-calibration") if away else worth_trying(measured, "zero-init", "skip-calibration"),
    )


def _towers(measured: Measurements) -> list[list[Skip]]:
    """Runs of add skips at each level: of short ones, and of those that hold others (residual in residual)."""
    adds = [s for s in measured.graph.skips if s.kind == "add"]
    short, long = [s for s in adds if not s.long], [s for s in adds if s.long]
    # The finder links short ones; of long ones the next begins where the one before has ended.
    return [*runs(short), *runs(long), *_side_by_side(long)]


def _side_by_side(skips: list[Skip]) -> list[list[Skip]]:
    """Rows of skips of one shape, each starting where the one before has ended, with no layer in between."""
    rows: list[list[Skip]] = []
    for s in sorted(skips, key=lambda s: (s.start, -s.end)):
        row = next((r for r in rows if r[-1].end == s.start and r[-1].merge_shape == s.fork_shape), None)
        if row is None:
            rows.append([s])
        else:
            row.append(s)
    return rows


def _parts(run: list[Skip]) -> list[list[Skip]]:
    """The whole run, and each stretch of it where x keeps its shape; those that are long enough."""
    parts: list[list[Skip]] = [run]
    stretch: list[Skip] = []
    for s in run:
        if stretch and stretch[-1].fork_shape != s.fork_shape:
            parts.append(stretch)
            stretch = []
        stretch.append(s)
    if len(stretch) < len(run):
        parts.append(stretch)
    return [p for p in parts if len(p) >= SHORTEST_RUN]


CHECK = CHECKS.register(
    "SG009",
    Check(
        "SG009",
        "Residual stream that grows with depth",
        "warning",
        "The size of x grows from block to block by a constant factor, because nothing normalises what the branches "
        "see. Skips alone do not suffice in a deep net: activations and gradients explode along them.",
        judge,
        ("steps", "skips"),
    ),
)
