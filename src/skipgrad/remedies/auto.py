"""auto: what the diagnosis of one batch prescribes, few blocks at first, and a rate steered by what a step changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.errors import MeasureError, RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.diagnosis import diagnose, prescriptions
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.grow import Grow
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, measurements_of, refusal
from skipgrad.remedies.records import Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.self_tune import SelfTune

# A part of the cure: called with the model as it is by then, it plans the part. None: nothing of that kind.
Part = Callable[[nn.Module], Plan]


class Auto(Remedy):
    """The first remedy that the diagnosis prescribes and the net accepts, then `Grow` and `SelfTune` where they fit.

    The diagnosis is of one forward and backward over one batch, before training: what it can see there (vanishing
    gradients, growth) is judged, what needs steps is not. Findings that are warnings or errors count. Where nothing is
    prescribed, the net is grown and its rate is steered.

    Nothing is searched, so it costs no tuning; that a plain net needs skips is found, and not typed.

    Papers: those of what it applies; skips for a plain net: He et al. 2015 (arXiv:1512.03385).

    Args:
        tau: see `SelfTune`.
        every: see `SelfTune`.
        grow: whether the net begins with few of its blocks, where it has enough of them in a row. Tell it the losses
            then (``applied.loss(loss)``).
    """

    name: ClassVar[str] = "auto"
    title: ClassVar[str] = "What the diagnosis of one batch prescribes, few blocks at first, and a steered rate"
    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False
    in_parts: ClassVar[bool] = True
    knobs: ClassVar[Mapping[str, Any]] = SelfTune.knobs

    def __init__(self, tau: float = 0.25, every: int = 20, grow: bool = True) -> None:
        self._steer = SelfTune(tau, every)
        self._grow = Grow() if grow else None

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        """See `Remedy.plan`. The rate is steered on the graph's own branches: `treat` finds those of the edited net."""
        return self._plan(graph, measurements_of(measured, f"planning {self.name}"), None)

    def treat(
        self,
        model: nn.Module,
        graph: SkipGraph,
        *,
        measured: Any = None,
        measure: Callable[[nn.Module], Any] | None = None,
        again: Callable[[nn.Module], SkipGraph] | None = None,
    ) -> Applied:
        """As `Remedy.treat`; ``again`` finds the skips of the edited model, so that those it added are steered by."""
        found = measured if measured is not None or measure is None else measure(model)
        return self._plan(graph, measurements_of(found, f"planning {self.name}"), again).apply(model)

    def _plan(
        self, graph: SkipGraph, measured: Measurements | None, again: Callable[[nn.Module], SkipGraph] | None
    ) -> Plan:
        if not len(graph) and not graph.suggestions:
            raise refusal(self.name, "it has no skip, and no place for one was found")
        if measured is None:
            raise MeasureError(
                f"planning {self.name}",
                received="no measurements",
                todo="pass a ledger that watched one forward and backward, or use treat(…, measure=)",
            )
        parts: list[Part] = []
        edits: list[Edit] = []
        left: list[Left] = []
        cure = _prescribed(graph, measured, left)
        if cure is not None:
            parts.append(lambda _model: cure)
            edits += cure.edits
        parts += self._then(graph, cure, again, edits, left)
        if not parts:
            raise refusal(self.name, "the diagnosis prescribes nothing, and no branch can be steered by", left)
        lines = _LINES.format(tau=self._steer.tau, every=self._steer.every, grow=self._grow is not None)
        return Plan(self.name, tuple(edits), tuple(left), lines, lambda plan, model: InParts(plan, model, parts))

    def _then(
        self,
        graph: SkipGraph,
        cure: Plan | None,
        again: Callable[[nn.Module], SkipGraph] | None,
        edits: list[Edit],
        left: list[Left],
    ) -> list[Part]:
        """What follows the cure: planned now on the net as it is, or later on the edited one."""
        steered = Edit("optimizer", f"the rate steered so that D is {self._steer.tau:g} (self-tune)")
        if cure is not None and again is not None:
            edits.append(steered)
            return _on_the_edited([r for r in (self._grow, self._steer) if r is not None], again)
        plans: list[Plan] = []
        for what, remedy in (("its depth", self._grow), ("the rate", self._steer)):
            if remedy is None:
                continue
            try:
                plans.append(remedy.plan(graph))
            except RemedyRefused as error:
                left.append(Left(what, f"left as it is: {error.received}"))
            else:
                edits += plans[-1].edits if remedy is self._grow else [steered]
        return [lambda _model, plan=plan: plan for plan in plans]


def _on_the_edited(remedies: Sequence[Remedy], again: Callable[[nn.Module], SkipGraph]) -> list[Part]:
    """All of one graph, that of the net with the cure and with all its blocks."""
    found: list[SkipGraph] = []

    def part(remedy: Remedy, model: nn.Module) -> Plan:
        if not found:
            found.append(again(model))
        return remedy.plan(found[0])

    return [partial(part, remedy) for remedy in remedies]


_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
with sg.watch(model, graph, budget=None) as ledger:
    loss_fn(model(example), target).backward()
model.zero_grad()
applied = sg.remedy("auto", tau={tau}, every={every}, grow={grow}).treat(
    model, graph, measured=ledger, again=lambda model: sg.find(model, example)
)
# ... make the optimizer, then applied.attach(optimizer), then train without a warm-up;
# applied.lasts(steps) says how long, applied.loss(loss) after each step how it goes
"""


def _prescribed(graph: SkipGraph, measured: Measurements, left: list[Left]) -> Plan | None:
    """The first prescription, of a warning or an error, that can be planned; why not those before."""
    harms = [f for f in diagnose(measured) if f.state == "found" and f.severity != "info"]
    for name in prescriptions(harms):
        if name in (Auto.name, SelfTune.name):
            continue
        try:
            return REMEDIES.get(name).plan(graph, measured)
        except (RemedyRefused, MeasureError) as error:
            left.append(Left(name, f"prescribed, but not possible: {error.received or error.doing}"))
    return None


class InParts(Applied):
    """Remedies in force one upon the other, each planned on the model that the ones before have made.

    Attributes:
        parts: what is in force, in order.
    """

    def __init__(self, plan: Plan, model: nn.Module, parts: Sequence[Part]) -> None:
        super().__init__(plan, model)
        self._make = tuple(parts)
        self.parts: list[Applied] = []
        self._refused: list[str] = []

    def _do(self) -> None:
        for make in self._make:
            try:
                self.parts.append(make(self.given).apply(self.given))
            except RemedyRefused as error:
                if not self.parts:
                    raise
                self._refused.append(f"{error.doing}: {error.received}")  # the part before it stands

    def _revert(self) -> None:
        while self.parts:
            self.parts.pop().undo()

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the parts, and what could not be planned on the edited model."""
        return (*(n for p in self.parts for n in p.notes), *self._refused)

    @property
    def whole(self) -> bool:
        """Whether every block is there, see `Grow`."""
        return all(getattr(part, "whole", True) for part in self.parts)

    def lasts(self, steps: int) -> None:
        """Says how long the training is, to the parts that go by it."""
        for part in self.parts:
            if hasattr(part, "lasts"):
                part.lasts(steps)  # type: ignore[attr-defined]

    def loss(self, value: float | torch.Tensor) -> None:
        """The loss of the step that was just taken, for the parts that go by it."""
        for part in self.parts:
            if hasattr(part, "loss"):
                part.loss(value)  # type: ignore[attr-defined]

    def attach(self, optimizer: torch.optim.Optimizer) -> InParts:
        for part in self.parts:
            part.attach(optimizer)
        return self

    def state_dict(self) -> dict[str, Any]:
        """What the parts remember from step to step, for a checkpoint."""
        return {p.plan.remedy: p.state_dict() for p in self.parts if hasattr(p, "state_dict")}  # type: ignore[attr-defined]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        for part in self.parts:
            if part.plan.remedy in state:
                part.load_state_dict(state[part.plan.remedy])  # type: ignore[attr-defined]

    def _verify(self, evidence: Evidence) -> Verification:
        """Every part's own checks."""
        checks = [c for p in self.parts for c in p.verify(evidence).checks]
        return Verification(self.plan.remedy, tuple(checks))


REMEDIES.register("auto", Auto(), rank=20)
