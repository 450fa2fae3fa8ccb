"""How much of what ran was measured: "passed" may be said of what was seen, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from skipgrad.core import Cost, Measurements

Need = Literal["steps", "skips"]

# So many steps, or all there were: one odd step then decides no median.
FEWEST_STEPS = 5
# What lies between two measured steps is unseen; half of a run unseen is a run that was not watched.
LARGEST_GAP = 0.5
# Runs shorter than this have no room for a gap.
SHORT = 6
# Half of the skips: with fewer a check speaks of a part of the net that nobody chose.
FEWEST_SKIPS = 0.5


@dataclass(frozen=True)
class Coverage:
    """What was measured of what ran; a figure is None where it is not known.

    Attributes:
        steps: steps of which there are rows.
        steps_run: steps that ran; at least those with rows or a loss.
        gap: the largest part of the run between two steps measured.
        skips: skips that have rows.
        skips_run: skips of the graph that can have any.
        layers: weighted layers that have rows.
        layers_run: weighted layers of the graph.
    """

    steps: int
    steps_run: int
    gap: float
    skips: int
    skips_run: int
    layers: int
    layers_run: int

    def figures(self) -> dict[str, int]:
        """As a finding carries it."""
        return {
            "steps": self.steps,
            "steps_run": self.steps_run,
            "skips": self.skips,
            "skips_run": self.skips_run,
            "layers": self.layers,
            "layers_run": self.layers_run,
        }

    def wanting(self, needs: tuple[Need, ...]) -> str:
        """Why "passed" cannot be said, and what to do; empty where it can."""
        if "steps" in needs:
            if self.steps < min(FEWEST_STEPS, self.steps_run):
                return (
                    f"only {self.steps} of {self.steps_run} steps were measured, and it takes {FEWEST_STEPS}: the "
                    "ledger's notes say what kept it from measuring the others (every= may be too large)"
                )
            if self.gap > LARGEST_GAP:
                return (
                    f"{self.steps} of {self.steps_run} steps were measured, and {100 * self.gap:.0f} % of the run lies "
                    "between two of them unseen: the ledger's notes say what kept it from measuring"
                )
        if "skips" in needs and 0 < self.skips < FEWEST_SKIPS * self.skips_run:
            return (
                f"only {self.skips} of {self.skips_run} skips were measured: the ledger's notes say why the others "
                "have no figures"
            )
        return ""


def coverage(measured: Measurements) -> Coverage:
    """Works the coverage out, from the ledger's own account where there is one, else from rows and losses."""
    rows = measured.steps()
    cost = measured.account.cost if measured.account is not None else Cost()
    every = sorted({*rows, *(p.step for p in measured.losses)})
    run = max(len(every), len(rows), cost.seen)
    seen = cost.measured or len(rows)
    ends = [every[0], *rows, every[-1]] if every else []
    length = ends[-1] - ends[0] + 1 if ends else 0
    gap = max((b - a for a, b in pairwise(ends)), default=0) / length if length >= SHORT else 0.0
    of_skips = {s.name for s in measured.graph.skips if s.kind != "index"}  # indices carry no gradient
    of_layers = {layer.name.split("#")[0] for layer in measured.graph.layers}
    return Coverage(
        steps=min(seen, run),
        steps_run=run,
        gap=gap,
        skips=len({r.skip for r in measured.skips} & of_skips),
        skips_run=len(of_skips),
        layers=len({r.layer for r in measured.layers} & of_layers),
        layers_run=len(of_layers),
    )
