"""`grow` in force: which blocks are there, and when more come in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import MeasureError, RemedyRefused
from skipgrad.instrument.state import kept
from skipgrad.instrument.wrappers import locate
from skipgrad.remedies.asleep import Gate, refuse_waiting
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.parameters import ParameterEdit
from skipgrad.remedies.plan import Plan
from skipgrad.remedies.records import Checked, Verification
from skipgrad.remedies.self_tune import everywhere

WINDOW, SHORTEST = 20, 8
FLAT = 0.3  # of the steepest fall
LATEST = 2 / 3  # of the training, for the last growth


@dataclass(frozen=True)
class Unit:
    """A block that can be left out.

    Attributes:
        path: of the module.
        skips: names of its skips, with commas.
        ends: the modules at which its branches end, which are set to zero.
        normed: a norm follows its add.
    """

    path: str
    skips: str
    ends: tuple[str, ...]
    normed: bool = False


class Growing(ParameterEdit):
    """`Grow` in force. Tell it the loss after each step: ``applied.loss(loss)``.

    Attributes:
        stage: how often it has grown.
        grown_at: the steps at which it did, counted by the losses told.

    Args:
        plan: the plan.
        model: the model.
        runs: its runs of blocks, each with the stage it comes in.
        stages: how many stages there are.
        steps: of the training, where they are known.
    """

    def __init__(
        self, plan: Plan, model: nn.Module, runs: Sequence[Sequence[tuple[Unit, int]]], stages: int, steps: int | None
    ) -> None:
        late = [(unit, stage) for run in runs for unit, stage in run if stage]
        ends = {path: tuple(unit.skips.split(", ")) for unit, _ in late for path in unit.ends}
        super().__init__(plan, model, dict.fromkeys(ends), ends)
        doing = f"applying {plan.remedy}"
        refuse_waiting(self.given, plan.remedy)
        kept_back = {p for p in ends if p not in self.targets}
        if kept_back:
            reasons = "; ".join(dict.fromkeys(one.reason for one in self.skipped))
            raise RemedyRefused(
                doing, received=f"blocks whose branch cannot start at zero: {reasons}", todo="try another"
            )
        self._blocks = [(locate(self.model, u.path, doing), Gate(u.normed), stage) for u, stage in late]
        self._many = sum(map(len, runs))
        self._stages, self._length = stages, steps
        self.stage, self.grown_at = 0, ()
        self._losses: list[float] = []
        self._steepest, self._step, self._since, self._untold = 0.0, 0, 0, 0
        self._handles: list[Any] = []

    @property
    def lines(self) -> str:
        return self.plan.lines

    @property
    def whole(self) -> bool:
        """Whether every block is there."""
        return self.stage + 1 == self._stages

    @property
    def there(self) -> int:
        """How many of the blocks that can be left out are there."""
        return self._many - sum(not gate.awake for _, gate, _ in self._blocks)

    @property
    def notes(self) -> tuple[str, ...]:
        """How far it has grown, and when."""
        when = f", grown at step {' and '.join(map(str, self.grown_at))}" if self.grown_at else ""
        return (f"{self.there} of {self._many} blocks are there{when}",)

    def lasts(self, steps: int) -> None:
        """Says how long the training is, where the plan did not."""
        if self._length is None:
            self._length = steps

    def attach(self, optimizer: torch.optim.Optimizer) -> Growing:
        """Looks that the optimizer can take weights which join later; counts its steps, to miss losses not told.

        Raises:
            RemedyRefused: fused SGD with momentum, which cannot; a second optimizer; it was undone.
        """
        doing = f"attaching {self.plan.remedy}"
        if self._handles or self._undone:
            received = "an edit that was undone" if self._undone else "a second optimizer"
            raise RemedyRefused(doing, received=received, todo="undo it and apply a new plan")
        if isinstance(optimizer, torch.optim.SGD) and any(g["fused"] and g["momentum"] for g in optimizer.param_groups):
            raise RemedyRefused(
                doing,
                received="fused SGD, which wants a momentum for all weights or for none",
                todo="make it without fused=True: blocks that come in later have none yet",
            )
        self._handles = [optimizer.register_step_post_hook(lambda *_: self._stepped())]
        return self

    def loss(self, value: float | torch.Tensor) -> None:
        """The loss of the step that was just taken; may let the next blocks in."""
        self._untold = 0
        told = everywhere(float(value.detach()) if isinstance(value, torch.Tensor) else float(value))
        self._step += 1
        if self.whole:
            return
        self._losses = [*self._losses, told][-2 * self._window :]
        self._since += 1
        if self._is_late() or self._is_flat():
            self._grow()

    def state_dict(self) -> dict[str, Any]:
        """What to keep with a checkpoint."""
        return {
            "stage": self.stage,
            "grown_at": list(self.grown_at),
            "losses": list(self._losses),
            "steepest": self._steepest,
            "step": self._step,
            "since": self._since,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.stage, self.grown_at = int(state["stage"]), tuple(state["grown_at"])
        self._losses, self._steepest = [float(v) for v in state["losses"]], float(state["steepest"])
        self._step, self._since = int(state["step"]), int(state["since"])
        self._wake()

    @property
    def _window(self) -> int:
        return WINDOW if self._length is None else max(SHORTEST, min(WINDOW, self._length // 8))

    def _is_late(self) -> bool:
        if self._length is None:
            return False
        return self._step >= LATEST * self._length * (self.stage + 1) / (self._stages - 1)

    def _is_flat(self) -> bool:
        wide = self._window
        if self._since < 2 * wide or len(self._losses) < 2 * wide:
            return False
        fall = (math.fsum(self._losses[:wide]) - math.fsum(self._losses[wide:])) / wide
        self._steepest = max(self._steepest, fall)
        return fall <= FLAT * self._steepest

    def _grow(self) -> None:
        self.stage += 1
        self.grown_at = (*self.grown_at, self._step)
        self._losses, self._steepest, self._since = [], 0.0, 0
        self._wake()

    def _wake(self) -> None:
        for _, gate, stage in self._blocks:
            gate.awake = stage <= self.stage

    def _stepped(self) -> None:
        self._untold += 1
        if self._untold > 2 * self._window and not self.whole:
            raise MeasureError(
                f"training with {self.plan.remedy}",
                received=f"{self._untold} steps and no loss",
                todo="call applied.loss(loss) after each optimizer.step(): its slope says when the net grows",
            )

    def _do(self) -> None:
        super()._do()
        for block, gate, _ in self._blocks:
            gate.close(block)

    def _revert(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for block, gate, _ in self._blocks:
            gate.remove(block)
        super()._revert()

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that what is to come in changes nothing: last layers at zero, and the output with all blocks there."""
        out = [block for block, gate, _ in self._blocks if not gate.awake]
        mine = {id(p) for block in out for p in block.parameters()}
        largest = max((float(p.detach().abs().max()) for _, _, p, _ in self.parameters() if id(p) in mine), default=0.0)
        zero = Checked("the branches of blocks left out end in exact zeros", _state(largest == 0), largest)
        return Verification(self.plan.remedy, (zero, self._same_output(evidence)))

    def _same_output(self, evidence: Evidence) -> Checked:
        what = "with all blocks there the output is the same"
        if not evidence.has_inputs:
            return Checked(what, "not applicable", reason="no example inputs given")
        normed = any(gate.normed for _, gate, _ in self._blocks)
        if normed and self._step:
            return Checked(what, "not applicable", reason="norms behind the adds have been trained: nearly the same")
        before = [gate.awake for _, gate, _ in self._blocks]
        outs: list[Any] = []
        try:
            with kept(self.model), torch.no_grad():
                self.model.eval()
                for awake in (before, [True] * len(before)):
                    for (_, gate, _), wake in zip(self._blocks, awake, strict=True):
                        gate.awake = wake
                    outs.append(evidence.run(self.model))
        finally:
            for (_, gate, _), wake in zip(self._blocks, before, strict=True):
                gate.awake = wake
        ours, theirs = outs
        if not isinstance(ours, torch.Tensor) or not isinstance(theirs, torch.Tensor):
            return Checked(what, "not applicable", reason="the output is no tensor")
        off = float((ours.double() - theirs.double()).norm()) / (float(theirs.double().norm()) or 1.0)
        return Checked(what, _state(off <= 1e-4), off)


def _state(passed: bool) -> Any:
    return "passed" if passed else "failed"
