"""gradient-scaling: evens out, over the branches, what their parameters learn per step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.ledger import watch
from skipgrad.remedies.knobs import Choice, Knob, Span
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Edit
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.steering import Steering, clip, figure_of, modules_by_skip

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("gradient-scaling"{options}).plan(graph).apply(model, optimizer)
# ... train as before; applied.undo() ends it
"""

# ‖S‖, ‖dL/dy‖, ‖B‖/‖S‖, ‖g‖, ‖g‖/‖W‖: what is evened out over the branches.
BY = ("skip", "entering", "ratio", "gradient", "trust")
_SYMBOLS = {"skip": "‖S‖", "entering": "‖dL/dy‖", "ratio": "‖B‖/‖S‖", "gradient": "‖g‖", "trust": "‖g‖/‖W‖"}


@dataclass(frozen=True)
class Evening:
    """f_i = clip((geometric mean over j of n_j / n_i)^power, 0.1, 10)."""

    power: float = 1.0
    by: str = "skip"

    def __call__(
        self, norms: Mapping[str, float], grads: Callable[[str], float], weights: Callable[[str], float] | None = None
    ) -> dict[str, float]:
        sizes = {s: self._size(s, n, grads, weights) for s, n in norms.items()}
        sizes = {s: n for s, n in sizes.items() if math.isfinite(n) and n > 0}
        if not sizes:
            return {}
        middle = sum(map(math.log, sizes.values())) / len(sizes)
        return {s: clip(math.exp(self.power * (middle - math.log(n)))) for s, n in sizes.items()}

    def _size(
        self, skip: str, norm: float, grads: Callable[[str], float], weights: Callable[[str], float] | None
    ) -> float:
        if self.by == "gradient":
            return grads(skip)
        if self.by == "trust":
            size = weights(skip) if weights is not None else 0.0
            return grads(skip) / size if size > 0 else math.nan
        return norm


class GradientScaling(Remedy):
    """Multiplies the gradients of branch i's parameters by clip((geomean_j n_j / n_i)^p, 0.1, 10).

    n_i is by ``by``: the running mean (decay 0.9) of ‖S_i‖, the measured skip gradient (``"skip"``), of ‖dL/dy_i‖, what
    enters the branch (``"entering"``), or of ‖B_i‖/‖S_i‖ (``"ratio"``); or the norm of the branch's present gradient
    (``"gradient"``), or that over the norm of its weights (``"trust"``). Whatever fades or grows from skip to skip, the
    factors make up for it. The gradient that flows upstream is exact.

    Papers: the neighbours are LARS (You et al. 2017, arXiv:1708.03888) and adaptive gradient clipping (Brock et
    al. 2021, arXiv:2102.06171), which scale by weights' norms; scaling by the measured skip gradient is ours.

    Args:
        power: p.
        by: what is evened out.

    Raises:
        BadInput: no such ``by``.
    """

    name: ClassVar[str] = "gradient-scaling"
    title: ClassVar[str] = "Even out branch gradients by the measured skip gradient"
    kind: ClassVar[RemedyKind] = "gradient"
    knobs: ClassVar[Mapping[str, Knob]] = {"power": Span(0.25, 1.0), "by": Choice(BY)}

    def __init__(self, power: float = 1.0, by: str = "skip") -> None:
        self._figure = figure_of(self.name, by, BY)
        self.power, self.by = power, by

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not len(graph):
            raise refusal(self.name, "it has no skip, so there is no skip gradient to go by")
        modules, left = modules_by_skip(graph)
        if not modules:
            raise refusal(self.name, "no branch has layers of its own", left)
        of = _SYMBOLS[self.by]
        what = f"gradients × clip((geomean {of} / {of}_i)^{self.power:g}, 0.1, 10) before each step"
        edits = tuple(Edit(path, what, skip) for skip, paths in modules.items() for path in paths)
        rule, figure = Evening(self.power, self.by), self._figure
        options = "" if (self.power, self.by) == (1.0, "skip") else f", power={self.power!r}, by={self.by!r}"
        return Plan(
            self.name,
            edits,
            left,
            _LINES.format(options=options),
            lambda plan, model: Steering(plan, model, graph, modules, rule, watch, figure),
        )


REMEDIES.register("gradient-scaling", GradientScaling(), rank=4)
