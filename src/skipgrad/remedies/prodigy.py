"""prodigy: an optimizer that finds its rate by itself, as a rival of a rate steered by the branches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.branches import branch_ends, stops_zero
from skipgrad.core.errors import BadInput, RemedyRefused
from skipgrad.core.extras import wanted
from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Checked, Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.zero_init import ZeroInit

DECAY = 0.01  # decoupled, as AdamW's

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("prodigy", d_coef={d_coef}).plan(graph).apply(model)
optimizer = applied.optimizer(model.parameters())  # in place of your own; it has no rate to type
"""


class Prodigy(Remedy):
    """Zero-init where it can be, and Prodigy in place of the optimizer: Adam whose rate is an estimate of ‖w₀ − w*‖.

    It knows nothing of skips: it races as a rival of `SelfTune`. The typed rate plays no part; a warm-up and a schedule
    multiply its own.

    Paper: Mishchenko & Defazio 2023, Prodigy: an expeditiously adaptive parameter-free learner (arXiv:2306.06101); the
    optimizer is the authors' own, of the package prodigyopt.

    Args:
        d_coef: a factor on the estimate.

    Raises:
        BadInput: a factor that is no positive number.
    """

    name: ClassVar[str] = "prodigy"
    title: ClassVar[str] = "An optimizer that finds its rate by itself"
    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {"d_coef": Span(0.3, 3.0, log=True)}

    def __init__(self, d_coef: float = 1.0) -> None:
        if isinstance(d_coef, bool) or not isinstance(d_coef, int | float) or not 0 < d_coef < math.inf:
            raise BadInput("setting up prodigy", where="d_coef", received=repr(d_coef), todo="give a number such as 1")
        self.d_coef = float(d_coef)

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not graph.layers:
            raise refusal(self.name, "no layer with weights to train")
        with wanted("tune", "planning prodigy"):
            import prodigyopt  # noqa: F401
        edits: list[Edit] = [Edit("optimizer", "Prodigy in its place")]
        left: tuple[Left, ...] = ()
        zero: Plan | None = None
        if branch_ends(graph, stops_zero).skips:
            zero = ZeroInit().plan(graph)
            edits, left = [*zero.edits, *edits], zero.skipped
        factor = self.d_coef
        lines = _LINES.format(d_coef=factor)
        return Plan(self.name, tuple(edits), left, lines, lambda plan, model: Replaced(plan, model, zero, factor))


class Replaced(Applied):
    """`Prodigy` in force: the zeros at once, the optimizer from `optimizer` on."""

    def __init__(self, plan: Plan, model: nn.Module, zero: Plan | None, d_coef: float) -> None:
        super().__init__(plan, model)
        self._zero, self._d_coef = zero, d_coef
        self._zeroed: Applied | None = None
        self._made: torch.optim.Optimizer | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The rate that it has found."""
        if self._made is None:
            return ()
        return (f"Prodigy's own rate is {float(self._made.param_groups[0]['d']):.3g}",)

    def optimizer(self, parameters: Iterable[nn.Parameter], weight_decay: float | None = None) -> torch.optim.Optimizer:
        """Makes the optimizer.

        Args:
            parameters: what it trains.
            weight_decay: decoupled; .01 when None.
        """
        from prodigyopt import Prodigy as Optimizer

        wanted_ones = [p for p in parameters if p.requires_grad]
        made = Optimizer(wanted_ones, lr=1.0, d_coef=self._d_coef)
        for group in made.param_groups:  # given to it, it prints a line
            group["weight_decay"] = DECAY if weight_decay is None else weight_decay
        self._made = made
        return made

    def attach(self, optimizer: torch.optim.Optimizer) -> Replaced:
        """Takes the optimizer that `optimizer` made, and no other.

        Raises:
            RemedyRefused: another one.
        """
        if optimizer is not self._made:
            raise RemedyRefused(
                f"attaching {self.plan.remedy}",
                received=f"{type(optimizer).__name__}, which it is to replace",
                todo="train with the one that applied.optimizer(model.parameters()) makes",
            )
        return self

    def _do(self) -> None:
        if self._zero is not None:
            self._zeroed = self._zero.apply(self.given)

    def _revert(self) -> None:
        if self._zeroed is not None:
            self._zeroed.undo()
            self._zeroed = None

    def _verify(self, evidence: Evidence) -> Verification:
        """The checks of zero-init, and that its estimate has only grown."""
        what = "the rate it has found has not fallen below where it began"
        if self._made is None:
            own = Checked(what, "not applicable", reason="no optimizer was made")
        else:
            group = self._made.param_groups[0]
            low = float(group["d"]) >= float(group["d0"])
            own = Checked(what, "passed" if low else "failed", 0.0 if low else float(group["d0"] - group["d"]))
        before = self._zeroed.verify(evidence).checks if self._zeroed is not None else ()
        return Verification(self.plan.remedy, (*before, own))


REMEDIES.register("prodigy", Prodigy(), rank=22)
