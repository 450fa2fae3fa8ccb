"""skip-calibration: every identity-skip branch gets the scale at which its gradient is 1/L of its skip's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.branches import branch_ends, stops_factor
from skipgrad.core.errors import BadInput, MeasureError
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.core.units import number
from skipgrad.remedies.affine import SCALE_NAMES
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.parameters import ParameterEdit
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, measurements_of, refusal
from skipgrad.remedies.records import Checked, Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.sweeps import Sweeps

LOWEST, HIGHEST = 1e-3, 1e3
# What verify calls calibrated: every branch within a quarter of its target.
TOLERANCE = 0.25


def branch_shares(measured: Measurements) -> dict[str, float]:
    """b_i = ‖B_i‖/‖S_i‖ per skip: the median over the rows of the first step in which skips were measured."""
    first = min((r.step for r in measured.skips), default=0)
    shares: dict[str, list[float]] = {}
    for row in measured.skips:
        if row.step == first and row.finite and row.skip_norm > 0:
            shares.setdefault(row.skip, []).append(row.branch_norm / row.skip_norm)
    return {name: statistics.median(values) for name, values in shares.items()}


class SkipCalibration(Remedy):
    """Multiplies the last affine layer of branch i by clip(c / (L^p · b_i), 10⁻³, 10³), with b_i = ‖B_i‖/‖S_i‖.

    L is the number of identity-skip adds. One plan is one sweep; because branches act on each other, `calibrate`
    measures and applies three of them.

    Papers: the data-driven relative of Zhang et al. 2019, Fixup (arXiv:1901.09321); De & Smith 2020, SkipInit
    (arXiv:2002.10444); Wang et al. 2022, DeepNorm (arXiv:2203.00555).

    Args:
        c: the target of ‖B‖/‖S‖ times L^p.
        p: the power of L.
    """

    name: ClassVar[str] = "skip-calibration"
    title: ClassVar[str] = "Scale every branch to 1/L of its skip, as measured"
    kind: ClassVar[RemedyKind] = "model"

    def __init__(self, c: float = 1.0, p: float = 1.0) -> None:
        if not (c > 0 and math.isfinite(c) and math.isfinite(p)):
            raise BadInput("setting up skip-calibration", received=f"c={c}, p={p}", todo="give a positive c")
        self.c, self.p = c, p

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        ends = branch_ends(graph, stops_factor)
        if not ends.total:
            raise refusal(self.name, f"no add with an identity shortcut among {len(graph)} skips")
        if not ends.skips:
            raise refusal(self.name, "no branch that a factor on its last layer would scale", ends.left)
        found = measurements_of(measured, f"planning {self.name}")
        if found is None or not found.skips:
            raise MeasureError(
                f"planning {self.name}",
                received="no measurements" if found is None else "measurements without a row of a skip",
                todo="pass the ledger of at least one backward: plan(graph, ledger)",
            )
        shares = branch_shares(found)
        target = self.c / ends.total**self.p
        edits, left, factors = [], list(ends.left), {}
        for path, skips in ends.skips.items():
            known = [shares[s] for s in skips if shares.get(s, 0.0) > 0 and math.isfinite(shares[s])]
            if len(known) < len(skips):
                left += [Left(s, _why_unmeasured(shares.get(s))) for s in dict.fromkeys(skips) if not shares.get(s)]
                continue
            b = statistics.geometric_mean(known)
            factors[path] = min(max(target / b, LOWEST), HIGHEST)
            before, after = f"‖B‖/‖S‖ {number(b)}", number(b * factors[path])
            skip = ", ".join(dict.fromkeys(skips))
            edits.append(Edit(path, "weight and bias", skip, before, after, factors[path]))
        if not edits:
            raise refusal(self.name, "no branch with a measurement to calibrate by", left)
        skips = {path: ends.skips[path] for path in factors}
        return Plan(
            self.name,
            tuple(edits),
            tuple(left),
            _lines(factors),
            lambda plan, model: Calibrated(plan, model, factors, skips, target),
        )

    def treat(
        self,
        model: nn.Module,
        graph: SkipGraph,
        *,
        measured: Any = None,
        measure: Callable[[nn.Module], Any] | None = None,
    ) -> Applied:
        """As `Remedy.treat`; with ``measure`` it is three sweeps of measuring and calibrating, not one."""
        if measure is None:
            return super().treat(model, graph, measured=measured)
        return Sweeps(calibrate(model, graph, measure, remedy=self))


def _why_unmeasured(share: float | None) -> str:
    return "no usable measurement of it in the first step" if share is None else "its branch gradient is 0"


def _lines(factors: dict[str, float]) -> str:
    table = "\n".join(f"    {path!r}: {factor!r}," for path, factor in factors.items())
    return f"""\
import re

import torch

factors = {{
{table}
}}
with torch.no_grad():
    for path, factor in factors.items():
        module = model.get_submodule(path)
        module = getattr(module, "out_proj", module)  # nn.MultiheadAttention
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("weight", "bias") or re.fullmatch(r"{SCALE_NAMES}", name):
                parameter.mul_(factor)
"""


class Calibrated(ParameterEdit):
    """One sweep of `SkipCalibration` in force."""

    repeatable: ClassVar[bool] = True

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        factors: dict[str, float],
        ends: dict[str, tuple[str, ...]],
        target: float,
    ) -> None:
        super().__init__(plan, model, dict(factors), ends)
        self.target = target
        self._ends = ends

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks the weights against factor × what they were, and the calibration against new measurements.

        With measurements taken after this sweep the residual is max |b_i / target − 1|, which is max |b_i·L − 1| for
        c = p = 1.
        """
        with torch.no_grad():
            off = max(
                float((p - old.to(p) * factor).abs().max())
                for (_, _, p, factor), old in zip(self.parameters(), self.saved(), strict=True)
                if factor is not None
            )
        checks = [Checked("weights are what they were times the factor", "passed" if off == 0 else "failed", off)]
        what = "every branch gradient is its target share of its skip gradient"
        found = measurements_of(evidence.measured, "verifying skip-calibration")
        names = {s for p in self.targets for s in self._ends[p]}
        shares = {} if found is None else {s: b for s, b in branch_shares(found).items() if s in names}
        if not shares:
            checks.append(Checked(what, "not applicable", reason="no measurements after the edit given"))
        else:
            worst = max(shares, key=lambda s: abs(shares[s] / self.target - 1))
            residual = abs(shares[worst] / self.target - 1)
            state = "passed" if residual <= TOLERANCE else "failed"
            checks.append(Checked(what, state, residual, f"largest at {worst}; {len(shares)} skips"))
        return Verification(self.plan.remedy, tuple(checks))


def calibrate(
    model: nn.Module,
    graph: SkipGraph,
    measure: Callable[[nn.Module], Any],
    sweeps: int = 3,
    remedy: SkipCalibration | None = None,
) -> list[Applied]:
    """Measures and calibrates in turn; all or nothing.

    Args:
        model: the model, edited in place.
        graph: its skips.
        measure: runs one forward and backward and returns measurements; should leave weights and buffers alone.
        sweeps: how often.
        remedy: another target than c = p = 1.

    Returns:
        What was applied, in order; undo it from the last to the first.
    """
    if sweeps < 1:
        raise BadInput("calibrating a model", where="sweeps", received=str(sweeps), todo="give at least 1")
    remedy = remedy or SkipCalibration()
    done: list[Applied] = []
    try:
        for _ in range(sweeps):
            done.append(remedy.plan(graph, measure(model)).apply(model))
    except BaseException:
        for applied in reversed(done):
            applied.undo()
        raise
    return done


REMEDIES.register("skip-calibration", SkipCalibration(), rank=2)
