"""gradient-scaling: evens out, over the branches, what their parameters learn per step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.ledger import watch
from skipgrad.remedies.knobs import Knob, Span
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Edit
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.steering import Steering, clip, modules_by_skip

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("gradient-scaling").plan(graph).apply(model, optimizer)
# ... train as before; applied.undo() ends it
"""


@dataclass(frozen=True)
class Evening:
    """f_i = clip((geometric mean over j of n_j / n_i)^power, 0.1, 10)."""

    power: float = 1.0

    def __call__(self, norms: Mapping[str, float], grads: Callable[[str], float]) -> dict[str, float]:
        middle = sum(map(math.log, norms.values())) / len(norms)
        return {s: clip(math.exp(self.power * (middle - math.log(n)))) for s, n in norms.items()}


class GradientScaling(Remedy):
    """Multiplies the gradients of branch i's parameters by clip((geomean_j n_j / n_i)^p, 0.1, 10).

    n_i is the running mean (decay 0.9) of ‖S_i‖, the measured skip gradient. Where the skip gradient fades from
    skip to skip the factors make up for it. The gradient that flows upstream is exact.

    Papers: the neighbours are LARS (You et al. 2017, arXiv:1708.03888) and adaptive gradient clipping (Brock et
    al. 2021, arXiv:2102.06171), which scale by weights' norms; scaling by the measured skip gradient is ours.

    Args:
        power: p.
    """

    name: ClassVar[str] = "gradient-scaling"
    title: ClassVar[str] = "Even out branch gradients by the measured skip gradient"
    kind: ClassVar[RemedyKind] = "gradient"
    knobs: ClassVar[Mapping[str, Knob]] = {"power": Span(0.25, 1.0)}

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not len(graph):
            raise refusal(self.name, "it has no skip, so there is no skip gradient to go by")
        modules, left = modules_by_skip(graph)
        if not modules:
            raise refusal(self.name, "no branch has layers of its own", left)
        what = f"gradients × clip((geomean ‖S‖ / ‖S_i‖)^{self.power:g}, 0.1, 10) before each step"
        edits = tuple(Edit(path, what, skip) for skip, paths in modules.items() for path in paths)
        power = self.power
        return Plan(
            self.name,
            edits,
            left,
            _LINES,
            lambda plan, model: Steering(plan, model, graph, modules, Evening(power), watch),
        )


REMEDIES.register("gradient-scaling", GradientScaling(), rank=4)
