"""zero-init: the last layer of every identity-skip branch starts at zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.branches import branch_ends, stops_zero
from skipgrad.core.graph import SkipGraph
from skipgrad.instrument.state import kept
from skipgrad.remedies.affine import SCALE_NAMES
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.parameters import ParameterEdit
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, measurements_of, refusal
from skipgrad.remedies.records import Checked, Edit, Verification
from skipgrad.remedies.registry import REMEDIES

_LINES = """\
import re

import torch

with torch.no_grad():
    for path in {paths}:
        module = model.get_submodule(path)
        module = getattr(module, "out_proj", module)  # nn.MultiheadAttention
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("weight", "bias") or re.fullmatch(r"{scales}", name):
                parameter.zero_()
"""


class ZeroInit(Remedy):
    """y = x + F(x) starts as y = x: weight and bias of the last affine layer of F are set to 0.

    The layer itself gets a gradient in the first step, the layers before it from the second on.

    Papers: Goyal et al. 2017 (arXiv:1706.02677, γ = 0 in the last batch norm of a block); Zhang et al. 2019,
    Fixup (arXiv:1901.09321); Bachlechner et al. 2020, ReZero (arXiv:2003.04887).
    """

    name: ClassVar[str] = "zero-init"
    title: ClassVar[str] = "Start every identity-skip branch at zero"
    kind: ClassVar[RemedyKind] = "model"

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        ends = branch_ends(graph, stops_zero)
        if not ends.skips:
            if not ends.total:
                raise refusal(
                    self.name,
                    f"no add with an identity shortcut among {len(graph)} skips",
                    todo="a plain net has nothing to zero: see add-skips",
                )
            raise refusal(self.name, "no branch that could be zeroed and live", ends.left)
        edits = tuple(
            Edit(path, "weight and bias to zero", ", ".join(dict.fromkeys(skips)), "F(x) + x", "x")
            for path, skips in ends.skips.items()
        )
        paths = str(list(ends.skips))
        lines = _LINES.format(paths=paths, scales=SCALE_NAMES)
        skips = dict(ends.skips)
        return Plan(self.name, edits, ends.left, lines, lambda plan, model: Zeroed(plan, model, skips))


class Zeroed(ParameterEdit):
    """`ZeroInit` in force. Verify it before training: after the first step the layers are not zero any more."""

    def __init__(self, plan: Plan, model: nn.Module, ends: dict[str, tuple[str, ...]]) -> None:
        super().__init__(plan, model, dict.fromkeys(ends), ends)
        self._ends = ends

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that the layers are zero, that the branches are, and that they can be trained.

        With inputs what the edited modules return is checked to be 0, with measurements the branches' forward RMS; with
        a loss every zeroed layer must get a gradient.
        """
        largest = max(float(p.detach().abs().max()) for _, _, p, _ in self.parameters())
        checks = [_checked(f"{len(self.targets)} last layers are exactly 0", largest == 0, largest)]
        checks.append(self._outputs(evidence))
        checks.append(self._measured(evidence.measured))
        checks.append(self._alive(evidence.loss))
        return Verification(self.plan.remedy, tuple(checks))

    def _outputs(self, evidence: Evidence) -> Checked:
        what = "what they return is exactly 0, so that y = x"
        # A block that owns its scale returns the sum, not the branch.
        leaves = {p: m for p, m in self.modules.items() if p in self.targets and _leaf(m)}
        if not evidence.has_inputs:
            return Checked(what, "not applicable", reason="no example inputs given")
        if not leaves:
            return Checked(what, "not applicable", reason="the blocks own their scales themselves")
        largest: dict[str, float] = {}

        def look(path: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, out: Any) -> None:
                first = out[0] if isinstance(out, tuple) else out
                largest[path] = max(largest.get(path, 0.0), float(first.detach().abs().max()))

            return hook

        # In front of other hooks: one may add a shortcut to what the module returns.
        handles = [m.register_forward_hook(look(p), prepend=True) for p, m in leaves.items()]
        try:
            with kept(self.model), torch.no_grad():
                evidence.run(self.model)
        finally:
            for handle in handles:
                handle.remove()
        if not largest:
            return Checked(what, "not applicable", reason="none of them ran as a module")
        worst = max(largest.values())
        reason = "" if len(largest) == len(leaves) else f"{len(leaves) - len(largest)} of them did not run"
        return _checked(what, worst == 0, worst, reason)

    def _measured(self, measured: Any) -> Checked:
        what = "the branches' forward RMS is 0"
        found = measurements_of(measured, "verifying zero-init")
        if found is None:
            return Checked(what, "not applicable", reason="no measurements given")
        # A skip counts when each of its branches was zeroed.
        names = {s for p in self.targets for s in self._ends[p]} - {s.skip for s in self.skipped}
        first = min((r.step for r in found.skips), default=0)
        rows = [r.branch_rms for r in found.skips if r.skip in names and r.step == first]
        if not rows:
            return Checked(what, "not applicable", reason="no row of an edited skip")
        return _checked(what, max(rows) == 0, max(rows))

    def _alive(self, loss: Callable[[], torch.Tensor] | None) -> Checked:
        what = "every zeroed layer gets a gradient"
        if loss is None:
            return Checked(what, "not applicable", reason="no loss given")
        with kept(self.model):
            parameters = self.parameters()
            grads = torch.autograd.grad(loss(), [p for _, _, p, _ in parameters], allow_unused=True)
        alive = {path for (path, *_), g in zip(parameters, grads, strict=True) if g is not None and bool(g.any())}
        dead = [p for p in self.targets if p not in alive]
        return _checked(what, not dead, len(dead) / len(self.targets), f"none at {', '.join(dead[:3])}" if dead else "")


def _leaf(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or not any(True for _ in module.children())


def _checked(what: str, ok: bool, residual: float, reason: str = "") -> Checked:
    return Checked(what, "passed" if ok else "failed", residual, reason)


REMEDIES.register("zero-init", ZeroInit(), rank=1)
