"""grow: the net begins with few of its blocks, and gets the others, at zero, when the loss flattens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from skipgrad.core.branches import Ends, branch_ends, stops_zero
from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.remedies.blocks import by_owner, is_normed, not_a_block, what_follows
from skipgrad.remedies.growing import Growing, Unit
from skipgrad.remedies.knobs import Choice, Knob
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Edit, Left
from skipgrad.remedies.registry import REMEDIES

FEWEST = 4  # blocks that can be left out; with fewer there is nothing to save

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("grow", start={start}, steps=steps).plan(graph).apply(model, optimizer)  # steps: of the training
for batch in batches:
    ...  # forward, backward, optimizer.step()
    applied.loss(loss)  # the slope of the loss says when the net grows
"""


class Grow(Remedy):
    """Most blocks are left out at first, y = x, and cost nothing; they come in with F = 0, so that the output stays.

    A run of blocks of equal shape begins with the share ``start`` of them, evenly spread, and doubles: 3 → 6 → 12. It
    does so when the loss flattens: with W steps a window, the fall from the window before the last one to the last one
    is at most .3 of the steepest such fall since the last growth. Where the length of the training is known, W is an
    eighth of it (8 to 20 steps), and growth i of k comes at the latest at ⅔·i/k of the steps: the net ends whole.

    A block is left out where its adds are short, their shortcuts identities, every branch could start at zero, and
    what follows leaves x as it is; behind a norm (Post-LN) nearly.

    Papers: Gong et al. 2019, Efficient training of BERT by progressively stacking; blocks at zero: Goyal et al. 2017
    (arXiv:1706.02677); the slope rule is ours.

    Args:
        start: share of the blocks of a run that are there from the beginning.
        steps: of the training; None: unknown, the slope alone decides. `skipgrad.train` says it by itself.

    Raises:
        BadInput: numbers out of range.
    """

    name: ClassVar[str] = "grow"
    title: ClassVar[str] = "Begin with few blocks, add the others at zero when the loss flattens"
    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {"start": Choice((0.25, 0.125))}

    def __init__(self, start: float = 0.25, steps: int | None = None) -> None:
        if isinstance(start, bool) or not isinstance(start, int | float) or not 0 < start < 1:
            raise BadInput("setting up grow", where="start", received=repr(start), todo="give a share such as 0.25")
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
            raise BadInput("setting up grow", where="steps", received=repr(steps), todo="give a number of steps")
        self.start, self.steps = float(start), steps

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not len(graph):
            raise refusal(self.name, "it has no skip, so no block can be left out")
        ends = branch_ends(graph, stops_zero)
        left: list[Left] = []
        runs: list[list[Unit]] = [[]]
        last: str | None = None
        for owner, skips in by_owner(graph).items():
            why = next((w for s in skips if (w := _why_not(s, graph, ends))), None)
            if why is not None:
                left += [Left(s.name, why) for s in skips]
                runs.append([])
                continue
            if skips[0].previous != last:
                runs.append([])
            runs[-1].append(_unit(owner, skips, graph, ends))
            last = skips[-1].name
        runs = [run for run in runs if len(run) > 1]
        many = sum(map(len, runs))
        if many < FEWEST:
            raise refusal(self.name, f"{many} blocks in a row can be left out, {FEWEST} are the fewest", left)
        edits = [
            Edit(unit.path, f"left out at first, there from stage {stage + 1} of {len(shares(self.start))}", unit.skips)
            for run in runs
            for unit, stage in zip(run, stages(len(run), self.start), strict=True)
            if stage
        ]
        lines = _LINES.format(start=self.start)
        start, steps = self.start, self.steps
        exact = not any(unit.normed for run in runs for unit in run)
        return Plan(
            self.name,
            tuple(edits),
            tuple(left),
            lines,
            lambda plan, model: Growing(plan, model, [_staged(run, start) for run in runs], len(shares(start)), steps),
            promise="a block that comes in leaves the output as it is" if exact else "",
        )


def shares(start: float) -> list[float]:
    """The share of the blocks that is there in each stage, doubling up to all.

    >>> shares(0.25)
    [0.25, 0.5, 1.0]
    """
    found = [start]
    while found[-1] < 1:
        found.append(min(1.0, 2 * found[-1]))
    return found


def stages(many: int, start: float) -> list[int]:
    """For each block of a run the stage in which it comes in, 0 for those that are there at first.

    Each one comes in the middle of the widest gap, so that those that are there are evenly spread.

    >>> stages(8, 0.25)
    [2, 1, 2, 0, 2, 0, 2, 1]
    """
    order: list[int] = []
    while len(order) < many:
        there = sorted((-1, *order, many))
        wide, low = max((b - a, -a) for a, b in pairwise(there))
        order.append(-low + wide // 2)
    found = [0] * many
    at = shares(start)
    for place, block in enumerate(order):
        found[block] = next(i for i, share in enumerate(at) if place < max(1, round(share * many)))
    return found


def _staged(run: Sequence[Unit], start: float) -> list[tuple[Unit, int]]:
    return list(zip(run, stages(len(run), start), strict=True))


def _why_not(skip: Skip, graph: SkipGraph, ends: Ends) -> str | None:
    if (why := not_a_block(skip)) is not None:
        return why
    zeroed = Counter(name for names in ends.skips.values() for name in names)[skip.name]
    if zeroed < max(1, len(skip.branches)):
        said = [one.reason for one in ends.left if one.skip == skip.name]
        return f"its branch cannot start at zero: {said[0] if said else 'an end of it is not known'}"
    return what_follows(skip, graph, norms=True)


def _unit(owner: str, skips: Sequence[Skip], graph: SkipGraph, ends: Ends) -> Unit:
    names = {s.name for s in skips}
    paths = tuple(p for p, of in ends.skips.items() if names & set(of))
    return Unit(owner, ", ".join(s.name for s in skips), paths, any(is_normed(s, graph) for s in skips))


REMEDIES.register("grow", Grow(), rank=21)
