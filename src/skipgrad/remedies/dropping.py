"""`layer-drop` in force: which blocks are left out in this step."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.instrument.state import kept
from skipgrad.instrument.wrappers import locate
from skipgrad.remedies.asleep import Gate, refuse_waiting
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Applied, Plan
from skipgrad.remedies.records import Checked, Verification

FAST = 100.0  # how fast the rates rise: after a tenth of the training they are whole (progressive layer dropping)


class Drop(Gate):
    """A block that is left out in some steps of a training, and whose change of x is divided by p in the others.

    Attributes:
        p: the probability that it runs in this step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.awake, self.p = True, 1.0

    def __call__(self, block: nn.Module, forward: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        """Gives x, or what the block makes of it."""
        if not block.training:
            return forward(x, *args, **kwargs)
        if not self.awake:
            return x
        out = forward(x, *args, **kwargs)
        if not isinstance(out, torch.Tensor) or not isinstance(x, torch.Tensor) or out.shape != x.shape:
            raise RemedyRefused(
                "applying layer-drop",
                received=f"a {type(block).__name__} that returns a {type(out).__name__} of another form than its input",
                todo="undo it: such a block cannot be left out",
            )
        return out if self.p == 1 else x + (out - x) / self.p

    def around(self) -> Callable[..., Any]:
        """What is done in place of the block's forward.

        Compiled, the blocks are graphs of their own: one around them would be compiled anew for each choice of blocks.
        """
        return torch.compiler.disable(lambda *args, **kwargs: self(*args, **kwargs), recursive=False)


class Dropping(Applied):
    """`LayerDrop` in force: draws anew after each step of the optimizer it was attached to.

    Attributes:
        step: steps so far. The draws of a step are a function of the seed and the step.

    Args:
        plan: the plan.
        model: the model.
        drops: path of each block → its drop rate.
        steps: of the training, where they are known.
        seed: of the draws.
    """

    def __init__(self, plan: Plan, model: nn.Module, drops: Mapping[str, float], steps: int | None, seed: int) -> None:
        super().__init__(plan, model)
        doing = f"applying {plan.remedy}"
        refuse_waiting(self.given, plan.remedy)
        self.drops = dict(drops)
        self._blocks = [(locate(self.model, path, doing), Drop(), rate) for path, rate in drops.items()]
        self._length, self._seed = steps, seed
        self.step = self._left_out = 0
        self._handles: list[Any] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """How much was left out."""
        whole = self.step * len(self._blocks)
        return (f"{self._left_out / whole:.0%} of the blocks' forwards were left out",) if whole else ()

    def lasts(self, steps: int) -> None:
        """Says how long the training is, where the plan did not."""
        if self._length is None:
            self._length = steps
        self._draw()

    def loss(self, value: float | torch.Tensor) -> None:
        """The loss of a step: nothing goes by it."""

    def attach(self, optimizer: torch.optim.Optimizer) -> Dropping:
        """Draws anew after each of its steps.

        Raises:
            RemedyRefused: a second optimizer; it was undone.
        """
        if self._handles or self._undone:
            received = "an edit that was undone" if self._undone else "a second optimizer"
            raise RemedyRefused(f"attaching {self.plan.remedy}", received=received, todo="undo it and apply a new plan")
        self._handles = [optimizer.register_step_post_hook(lambda *_: self._stepped())]
        return self

    def state_dict(self) -> dict[str, Any]:
        """What to keep with a checkpoint."""
        return {"step": self.step, "left_out": self._left_out}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` gave."""
        self.step, self._left_out = int(state["step"]), int(state["left_out"])
        self._draw()

    def rates(self) -> list[float]:
        """The drop rate of each block in this step."""
        risen = 1.0 if self._length is None else 1 - math.exp(-FAST * self.step / self._length)
        return [risen * rate for _, _, rate in self._blocks]

    def _stepped(self) -> None:
        self._left_out += sum(not gate.awake for _, gate, _ in self._blocks)
        self.step += 1
        self._draw()

    def _draw(self) -> None:
        draws = random.Random(f"{self._seed} {self.step}")
        for (_, gate, _), rate in zip(self._blocks, self.rates(), strict=True):
            gate.p, gate.awake = 1 - rate, draws.random() >= rate

    def _do(self) -> None:
        for block, gate, _ in self._blocks:
            gate.close(block)
        self._draw()

    def _revert(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for _, gate, _ in self._blocks:
            gate.p = 1.0
        for block, gate, _ in self._blocks:
            gate.remove(block)

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that blocks left out do not run, that each can be left out, and that evaluation is what it was."""
        what = ("a block that is left out does not run", "the output in evaluation is that without it")
        if not evidence.has_inputs:
            checks = [Checked(w, "not applicable", reason="no example inputs given") for w in what]
            return Verification(self.plan.remedy, tuple(checks))
        before = [(gate.awake, gate.p) for _, gate, _ in self._blocks]
        ran: set[int] = set()
        handles = [
            part.register_forward_hook(lambda *_, k=k: ran.add(k))
            for k, (block, _, _) in enumerate(self._blocks)
            for part in block.children()
        ]
        try:
            with kept(self.model), torch.no_grad():
                self.model.train()
                for _, gate, _ in self._blocks:
                    gate.awake, gate.p = True, 1.0
                evidence.run(self.model)  # each is seen to return a tensor like its input
                ran.clear()
                for _, gate, _ in self._blocks:
                    gate.awake = False
                evidence.run(self.model)
            still = len(ran)
            with kept(self.model), torch.no_grad():
                self.model.eval()
                ours = evidence.run(self.model)
                for _, gate, _ in self._blocks:
                    gate.awake = True
                theirs = evidence.run(self.model)
        finally:
            for handle in handles:
                handle.remove()
            for (_, gate, _), (awake, p) in zip(self._blocks, before, strict=True):
                gate.awake, gate.p = awake, p
        same = Checked(what[1], "not applicable", reason="the output is no tensor")
        if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
            off = float((ours.double() - theirs.double()).abs().max())
            same = Checked(what[1], "passed" if off == 0 else "failed", off)
        return Verification(self.plan.remedy, (Checked(what[0], "failed" if still else "passed", float(still)), same))
