"""agc: no unit's gradient larger than a share of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.errors import BadInput, RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import owner_of
from skipgrad.instrument.wrappers import locate
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Checked, Edit, Verification
from skipgrad.remedies.registry import REMEDIES

LEAST = 1e-3  # a unit's norm is taken as at least this, so that weights at zero can move

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("agc", clip_factor={clip_factor}).plan(graph).apply(model, optimizer)
# ... train as before; applied.undo() ends it
"""


class AdaptiveClipping(Remedy):
    """Before each step the gradient g of every unit is multiplied by min(1, λ·max(‖w‖, 1e-3) / ‖g‖).

    A unit is a row of a weight (an output channel); a bias or a scale is one unit. The net's last layer is left
    alone, as in the paper. It needs no skip: it races as a rival that knows nothing of them.

    Paper: Brock et al. 2021 (arXiv:2102.06171).

    Args:
        clip_factor: λ.
    """

    name: ClassVar[str] = "agc"
    title: ClassVar[str] = "Adaptive gradient clipping, unit by unit"
    kind: ClassVar[RemedyKind] = "gradient"
    knobs: ClassVar[Mapping[str, Knob]] = {"clip_factor": Span(0.005, 0.3, log=True)}

    def __init__(self, clip_factor: float = 0.01) -> None:
        if not (isinstance(clip_factor, int | float) and math.isfinite(clip_factor) and clip_factor > 0):
            raise BadInput(
                "setting up agc", where="clip_factor", received=repr(clip_factor), todo="give a number such as 0.01"
            )
        self.clip_factor = float(clip_factor)

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        paths = list(dict.fromkeys(layer.name.split("#")[0] for layer in graph.layers))[:-1]
        if not paths:
            raise refusal(self.name, "no layer with weights before the last one")
        what = f"gradients of a unit at most {self.clip_factor:g} × its weights"
        edits = tuple(Edit(path, what) for path in paths)
        bind = partial(_bound, paths=paths, factor=self.clip_factor)
        return Plan(self.name, edits, (), _LINES.format(clip_factor=self.clip_factor), bind)


def _bound(plan: Plan, model: nn.Module, paths: list[str], factor: float) -> Clipped:
    return Clipped(plan, model, paths, factor)


class Clipped(Applied):
    """`AdaptiveClipping` in force from `attach(optimizer)` on."""

    def __init__(self, plan: Plan, model: nn.Module, paths: list[str], factor: float) -> None:
        super().__init__(plan, model)
        self._factor = factor
        own: dict[int, nn.Parameter] = {}
        names = {n for n, _ in self.model.named_modules()}
        for path in paths:
            module = locate(self.model, owner_of(path, names), f"applying {plan.remedy}")
            own |= {id(p): p for p in module.parameters(recurse=isinstance(module, nn.MultiheadAttention))}
        self.parameters = list(own.values())
        self._handles: list[Any] = []

    def _do(self) -> None:
        """Does nothing: the edit begins when there is an optimizer."""

    def attach(self, optimizer: torch.optim.Optimizer) -> Clipped:
        """Clips before each of the optimizer's steps.

        Raises:
            RemedyRefused: it has an optimizer already, or was undone.
        """
        if self._handles or self._undone:
            raise RemedyRefused(
                f"attaching {self.plan.remedy}",
                received="an edit that was undone" if self._undone else "a second optimizer",
                todo="undo it and apply a new plan",
            )
        self._handles = [optimizer.register_step_pre_hook(lambda *_: self._clip())]
        return self

    def _revert(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.no_grad()
    def _clip(self) -> None:
        for p in self.parameters:
            if p.grad is not None:
                p.grad.mul_(factors(p, p.grad, self._factor))

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks, with a loss, that no unit's gradient exceeds its bound once clipped; gradients are put back."""
        what = "no unit's gradient is larger than its bound"
        if evidence.loss is None:
            return Verification(self.plan.remedy, (Checked(what, "not applicable", reason="no loss given"),))
        grads = torch.autograd.grad(evidence.loss(), self.parameters, allow_unused=True)
        worst = 0.0
        for p, g in zip(self.parameters, grads, strict=True):
            if g is not None:
                left = factors(p, g * factors(p, g, self._factor), self._factor)
                worst = max(worst, float(1 - left.min()))
        return Verification(self.plan.remedy, (Checked(what, "passed" if worst < 1e-4 else "failed", worst),))


def factors(weight: torch.Tensor, grad: torch.Tensor, clip_factor: float) -> torch.Tensor:
    """What a gradient is multiplied by, unit by unit, in the shape that broadcasts to it.

    A gradient that is not finite is left as it is.
    """
    dims = list(range(1, weight.dim())) if weight.dim() > 1 else list(range(weight.dim()))
    most = clip_factor * _norm(weight.detach(), dims).clamp(min=LEAST)
    size = _norm(grad, dims)
    found = torch.where(size > most, most / size, torch.ones_like(size))
    return torch.where(torch.isfinite(size), found, torch.ones_like(size)).to(grad.dtype)


def _norm(values: torch.Tensor, dims: list[int]) -> torch.Tensor:
    squares = values.float().square()
    return (squares.sum(dims, keepdim=True) if dims else squares).sqrt()


REMEDIES.register("agc", AdaptiveClipping(), rank=8)
