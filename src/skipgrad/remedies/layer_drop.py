"""layer-drop: whole blocks are left out at random while the net trains, and nothing of them is computed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, ClassVar

from torch import nn

from skipgrad.core.errors import BadInput
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import Measurements
from skipgrad.core.skips import Skip
from skipgrad.core.units import number
from skipgrad.remedies.blocks import by_owner, not_a_block, what_follows
from skipgrad.remedies.dropping import Dropping
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.plan import Applied, Plan, Remedy, RemedyKind, measurements_of, refusal
from skipgrad.remedies.records import Edit, Left
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.retrofit.design import SAME

FEWEST = 3  # blocks that can be left out
MOST = 0.8  # a block is dropped in no more than this share of the steps

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
with sg.watch(model, graph) as ledger:  # some steps: blocks that change x little are dropped more often
    ...
cure = sg.remedy("layer-drop", rate={rate}, steps=steps)  # steps: of the training
applied = cure.plan(graph, ledger).apply(model, optimizer)
"""


class LayerDrop(Remedy):
    """y = x + b·(block(x) − x)/p in training, b = 1 with probability p, once a step; a block with b = 0 does not run.

    In evaluation the net is what it was, and in training it is so on average, block by block. How often a block is
    dropped follows from what was measured of it: with a = rms F(x) / rms x, the drop rates are proportional to 1/a
    (a block that changes x little is missed little), at most .8, and their mean is ``rate``. Without measurements they
    rise linearly from the first block to the last. Where the length T of the training is known, step t has the share
    1 − exp(−100·t/T) of them: the net begins whole.

    A block is left out where its adds are short, their shortcuts identities, and what follows leaves x as it is; behind
    a norm (Post-LN) nearly. All samples of a step and all its processes drop the same blocks.

    Papers: Huang et al. 2016, Deep networks with stochastic depth (arXiv:1603.09382); the schedule: Zhang and He 2020,
    Accelerating training of transformer-based language models with progressive layer dropping (arXiv:2010.13369); rates
    from the measured share are ours.

    Args:
        rate: mean share of the steps in which a block is dropped, in (0, .8].
        steps: of the training; None: unknown, the rates hold from the start. `skipgrad.train` says it by itself.
        seed: of the draws.

    Raises:
        BadInput: numbers out of range.
    """

    name: ClassVar[str] = "layer-drop"
    title: ClassVar[str] = "Leave blocks out at random and compute nothing of them"
    kind: ClassVar[RemedyKind] = "model"
    by_default: ClassVar[bool] = False
    knobs: ClassVar[Mapping[str, Knob]] = {"rate": Span(0.1, 0.5)}

    def __init__(self, rate: float = 0.3, steps: int | None = None, seed: int = 0) -> None:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= MOST:
            raise BadInput("setting up layer-drop", where="rate", received=repr(rate), todo="give a share such as 0.3")
        for what, value, least in (("steps", 1 if steps is None else steps, 1), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                todo = f"give a whole number from {least}"
                raise BadInput("setting up layer-drop", where=what, received=repr(value), todo=todo)
        self.rate, self.steps, self.seed = float(rate), steps, seed

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not len(graph):
            raise refusal(self.name, "it has no skip, so no block can be left out")
        found: list[tuple[str, list[Skip]]] = []
        left: list[Left] = []
        for owner, skips in by_owner(graph).items():
            why = next((w for s in skips if (w := not_a_block(s) or what_follows(s, graph, norms=True))), None)
            if why is None:
                found.append((owner, skips))
            else:
                left += [Left(s.name, why) for s in skips]
        if len(found) < FEWEST:
            raise refusal(self.name, f"{len(found)} blocks can be left out, {FEWEST} are the fewest", left)
        rows = measurements_of(measured, f"planning {self.name}")
        changes = None if rows is None else _changes(rows, [[s.name for s in skips] for _, skips in found])
        rates = spread(changes or [len(found) / (k + 1) for k in range(len(found))], self.rate)
        edits = tuple(
            Edit(owner, f"dropped in {number(rate)} of the steps", ", ".join(s.name for s in skips))
            for (owner, skips), rate in zip(found, rates, strict=True)
        )
        drops = {owner: rate for (owner, _), rate in zip(found, rates, strict=True)}
        steps, seed = self.steps, self.seed
        return Plan(
            self.name,
            edits,
            tuple(left),
            _LINES.format(rate=self.rate),
            lambda plan, model: Dropping(plan, model, drops, steps, seed),
            promise=SAME,
        )

    def treat(
        self,
        model: nn.Module,
        graph: SkipGraph,
        *,
        measured: Any = None,
        measure: Callable[[nn.Module], Any] | None = None,
    ) -> Applied:
        """As `Remedy.treat`; what is not measured yet, and can be, is."""
        if measured is None and measure is not None:
            measured = measure(model)
        return super().treat(model, graph, measured=measured)


def spread(changes: Sequence[float], rate: float) -> list[float]:
    """Drop rates proportional to 1/change, each at most `MOST`, whose mean is ``rate``.

    >>> spread([1.0, 1.0, 2.0], 0.25)
    [0.3, 0.3, 0.15]
    """
    wants = [1 / max(change, 1e-6) for change in changes]
    capped: set[int] = set()
    while True:
        room = rate * len(wants) - MOST * len(capped)
        whole = math.fsum(w for k, w in enumerate(wants) if k not in capped)
        rates = [MOST if k in capped else room * w / whole for k, w in enumerate(wants)]
        over = {k for k, r in enumerate(rates) if r > MOST}
        if not over:
            return [round(r, 12) for r in rates]
        capped |= over


def _changes(measured: Measurements, blocks: Sequence[Sequence[str]]) -> list[float] | None:
    """What each block changes of x: the medians of rms F / rms x over all steps; None where one is not known."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in measured.skips:
        share = row.branch_rms / row.x_rms if row.finite and row.x_rms > 0 else math.nan
        if math.isfinite(share):
            found[row.skip].append(share)
    if any(name not in found for names in blocks for name in names):
        return None
    return [math.hypot(*(median(found[name]) for name in names)) for names in blocks]


REMEDIES.register("layer-drop", LayerDrop(), rank=23)
