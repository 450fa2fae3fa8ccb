"""prune-blocks: takes out the blocks of a trained net that do next to nothing."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, ClassVar

import torch
from torch import nn

from skipgrad.core.errors import BadInput, MeasureError, RemedyRefused
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.core.skips import Skip
from skipgrad.core.units import number
from skipgrad.instrument.faults import explained
from skipgrad.instrument.state import kept
from skipgrad.instrument.wrappers import locate, strip_call
from skipgrad.probes.lesion import Lesions, dropped
from skipgrad.remedies.blocks import by_owner, not_a_block, what_follows
from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, measurements_of, refusal
from skipgrad.remedies.records import Checked, Edit, Left, Verification
from skipgrad.remedies.registry import REMEDIES

IDLE = 0.01  # as SG005: without such a branch x changes by a hundredth, and the gradient, too
_LINES = """\
from skipgrad.remedies.prune_blocks import Passed

for path in {paths!r}:
    home, _, name = path.rpartition(".")
    home = model.get_submodule(home)
    setattr(home, name, Passed(getattr(home, name)))
"""


class Passed(nn.Module):
    """x, in the place of a block that took x and made y = x + F(x) of it; whatever else it was given is left alone.

    At its first call that is not compiled it runs the block once more, to see that it returned a tensor like x and
    nothing else.

    Raises:
        RemedyRefused: the block returned something else.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self._block: list[nn.Module] = [block]  # no submodule: its weights are not the model's any more

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward."""
        if self._block and not torch.compiler.is_compiling():  # a look would break the graph
            self._look(x, args, kwargs)
        return x

    def _look(self, x: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        (block,) = self._block
        doing = "applying prune-blocks"
        with kept(block), torch.no_grad(), explained(block, doing, (x, *args), kwargs):
            out = block(x, *args, **kwargs)
        if not isinstance(out, torch.Tensor) or out.shape != x.shape:
            raise RemedyRefused(
                doing,
                received=f"a {type(block).__name__} that returns a {type(out).__name__}"
                + (f" of shape {tuple(out.shape)} for {tuple(x.shape)}" if isinstance(out, torch.Tensor) else ""),
                todo="undo it: such a block cannot be replaced by its input",
            )
        self._block.clear()


@dataclass(frozen=True)
class Pruned:
    """A net with its idle blocks and without.

    Attributes:
        parameters: how many, before and after.
        seconds: of a forward, before and after; medians.
        score: before and after.
    """

    parameters: tuple[int, int]
    seconds: tuple[float, float]
    score: tuple[float, float]

    def __str__(self) -> str:
        fewer = 1 - self.parameters[1] / self.parameters[0]
        return (
            f"parameters {self.parameters[0]:,} to {self.parameters[1]:,} ({fewer:.0%} fewer), a forward "
            f"{1e3 * self.seconds[0]:.3g} to {1e3 * self.seconds[1]:.3g} ms, score {number(self.score[0])} to "
            f"{number(self.score[1])}"
        )


class PruneBlocks(Remedy):
    """Replaces blocks by their input where every branch in them is idle: y = x in place of y = x + F(x).

    Idle: over the second half of the measured steps the medians of ‖B‖/‖S‖ and of rms F(x) / rms x are both at most
    ``idle``, and, where ``lesions`` are given, the score without the branch is worse by at most ``tolerance``. A block
    is a module whose weights are all on such branches, whose skips are short adds with identity shortcuts, and behind
    whose last add nothing follows but what leaves x as it is.

    Paper: Veit et al. 2016, Residual networks behave like ensembles of relatively shallow networks (arXiv:1605.06431).

    Args:
        idle: the bound.
        lesions: what `skipgrad.probes.lesion.lesions` measured on the trained net, of a score that is better the lower.
        tolerance: by how much the score may be worse without a branch.

    Raises:
        BadInput: numbers out of range.
    """

    name: ClassVar[str] = "prune-blocks"
    title: ClassVar[str] = "Take out blocks that do next to nothing"
    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False

    def __init__(self, idle: float = IDLE, lesions: Lesions | None = None, tolerance: float = 0.0) -> None:
        for what, value in (("idle", idle), ("tolerance", tolerance)):
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise BadInput("setting up prune-blocks", where=what, received=repr(value), todo="give a number from 0")
        self.idle, self.lesions, self.tolerance = float(idle), lesions, float(tolerance)

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not len(graph):
            raise refusal(self.name, "it has no skip, so no block can be left out")
        rows = measurements_of(measured, f"planning {self.name}")
        if rows is None or not rows.skips:
            raise MeasureError(
                f"planning {self.name}",
                received="no measurements",
                todo="pass a ledger that watched some steps of the trained net",
            )
        shares = _shares(rows)
        blocks = by_owner(graph)
        edits: list[Edit] = []
        left: list[Left] = []
        for owner, skips in blocks.items():
            why = next((w for s in skips if (w := self._why_not(s, graph, shares))), None)
            if why is not None:
                left += [Left(s.name, why) for s in skips]
                continue
            told = max(max(shares[s.name]) for s in skips)
            edits.append(
                Edit(owner, "y = x in its place", ", ".join(s.name for s in skips), f"F at {number(told)} of x", "0")
            )
        if not edits:
            raise refusal(self.name, "no block is idle", left)
        paths = tuple(e.where for e in edits)
        branches = {e.where: tuple(p for s in blocks[e.where] for b in s.branches for p in b) for e in edits}
        bind = partial(_bound, graph=graph, branches=branches)
        return Plan(self.name, tuple(edits), tuple(left), _LINES.format(paths=list(paths)), bind)

    def _why_not(self, skip: Skip, graph: SkipGraph, shares: Mapping[str, tuple[float, float]]) -> str | None:
        if (why := not_a_block(skip)) is not None:
            return why
        if skip.name not in shares:
            return "it was not measured"
        gradient, size = shares[skip.name]
        if not max(gradient, size) <= self.idle:
            return f"it is not idle: ‖B‖/‖S‖ {number(gradient)}, F/x {number(size)}"
        if self.lesions is not None:
            without = self.lesions.by_skip.get(skip.name)
            if without is None:
                return f"no lesion of it: {self.lesions.left.get(skip.name, 'it was not asked for')}"
            if not without - self.lesions.base <= self.tolerance:
                return f"the score without it is {number(without)}, with it {number(self.lesions.base)}"
        return what_follows(skip, graph)


def _shares(measured: Measurements) -> dict[str, tuple[float, float]]:
    """Skip → medians of ‖B‖/‖S‖ and rms F / rms x over the second half of the steps; without those not finite."""
    steps = sorted({r.step for r in measured.skips})
    late = steps[len(steps) // 2 :]
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for r in measured.skips:
        if r.step >= late[0] and r.finite and r.skip_norm > 0 and r.x_rms > 0:
            found[r.skip].append((r.branch_norm / r.skip_norm, r.branch_rms / r.x_rms))
    told = {s: (median(v[0] for v in values), median(v[1] for v in values)) for s, values in found.items()}
    return {s: v for s, v in told.items() if all(map(math.isfinite, v))}


def _weights(model: nn.Module, path: str, doing: str) -> list[nn.Parameter]:
    return list(locate(model, strip_call(path), doing).parameters())


def _bound(plan: Plan, model: nn.Module, graph: SkipGraph, branches: Mapping[str, tuple[str, ...]]) -> BlocksPruned:
    return BlocksPruned(plan, model, graph, branches)


class BlocksPruned(Applied):
    """`PruneBlocks` in force. Build the optimizer afterwards: the blocks' weights are no longer the model's."""

    def __init__(self, plan: Plan, model: nn.Module, graph: SkipGraph, branches: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(plan, model)
        self._graph = graph
        self._homes: list[tuple[nn.Module, str, nn.Module]] = []
        doing = f"applying {plan.remedy}"
        self.names: list[str] = []
        for edit in plan.edits:
            block = locate(self.model, edit.where, doing)
            if isinstance(block, Passed):
                raise RemedyRefused(
                    doing,
                    received="a model on which it is in force already",
                    todo="undo() it first, or make a new plan",
                )
            own = {
                id(p) for path in branches[edit.where] for p in locate(self.model, strip_call(path), doing).parameters()
            }
            if any(id(p) not in own for p in block.parameters()):
                self.skipped += (Left(edit.skip, "its block has weights that are not on its branch"),)
                continue
            home, _, name = edit.where.rpartition(".")
            self._homes.append((locate(self.model, home, doing), name, block))
            self.names += edit.skip.split(", ")
        if not self._homes:
            raise RemedyRefused(
                doing, received="blocks with weights beside their branches", todo="leave them as they are"
            )

    def _do(self) -> None:
        for home, name, block in self._homes:
            home._modules[name] = Passed(block).train(block.training)

    def _revert(self) -> None:
        for home, name, block in self._homes:
            home._modules[name] = block

    def compare(self, inputs: Sequence[Any], score: Callable[[Any], float], rounds: int = 5) -> Pruned:
        """Parameters, time of a forward and score, before and after, in evaluation mode.

        Args:
            inputs: positional inputs.
            score: what the net returned → a number, such as the error in percent.
            rounds: forwards timed on each side, in turns.
        """
        many, scores, times = [0, 0], [0.0, 0.0], ([], [])
        with kept(self.model), torch.no_grad():
            self.model.eval()
            for n in range(rounds + 1):
                for side, put in enumerate((self._revert, self._do)):
                    put()
                    if side:  # its first call has a look at the block
                        self.model(*inputs)
                    start = time.perf_counter()
                    out = self.model(*inputs)
                    if n:
                        times[side].append(time.perf_counter() - start)
                    many[side], scores[side] = sum(p.numel() for p in self.model.parameters()), score(out)
        return Pruned(
            (many[0], many[1]), (median(times[0]), median(times[1])), (scores[0], scores[1])
        )  # fmt: skip

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks that the output is that of the whole net with these branches dropped."""
        what = "the output is that of the net with these branches dropped"
        if evidence.example is None or evidence.kwargs:
            return Verification(self.plan.remedy, (Checked(what, "not applicable", reason="no positional inputs"),))
        example = evidence.example if isinstance(evidence.example, tuple | list) else (evidence.example,)
        with kept(self.model), torch.no_grad():
            self.model.eval()
            ours = self.model(*example)
            self._revert()
            try:
                theirs = dropped(self.model, self._graph, self.names, example)
            finally:
                self._do()
        if not isinstance(ours, torch.Tensor):
            return Verification(self.plan.remedy, (Checked(what, "not applicable", reason="the output is no tensor"),))
        size = float(theirs.norm()) or 1.0
        off = float((ours - theirs).norm()) / size
        return Verification(self.plan.remedy, (Checked(what, "passed" if off <= 1e-5 else "failed", off),))


REMEDIES.register("prune-blocks", PruneBlocks(), rank=19)
