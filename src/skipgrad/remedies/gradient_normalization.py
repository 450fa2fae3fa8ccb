"""gradient-normalization: branch gradients divided by the running size of the measured skip gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from skipgrad.core.graph import SkipGraph
from skipgrad.ledger import watch
from skipgrad.remedies.knobs import Choice, Knob
from skipgrad.remedies.plan import Plan, Remedy, RemedyKind, refusal
from skipgrad.remedies.records import Edit
from skipgrad.remedies.registry import REMEDIES
from skipgrad.remedies.steering import FIGURES, Steering, clip, figure_of, modules_by_skip

_LINES = """\
import skipgrad as sg

graph = sg.find(model, example)  # example: one batch of inputs
applied = sg.remedy("gradient-normalization"{options}).plan(graph).apply(model, optimizer)
# ... train as before; applied.undo() ends it
"""


@dataclass
class Dividing:
    """f_i = clip(c / n_i, 0.1, 10); c is fixed in the first step so that the branches' overall norm is unchanged."""

    constant: float | None = None

    def __call__(
        self, norms: Mapping[str, float], grads: Callable[[str], float], weights: Callable[[str], float] | None = None
    ) -> dict[str, float]:
        if self.constant is None:
            sizes = {s: grads(s) for s in norms}
            before = math.hypot(*sizes.values())
            after = math.hypot(*(sizes[s] / n for s, n in norms.items()))
            if not (math.isfinite(before) and math.isfinite(after) and before > 0 and after > 0):
                return {}  # nothing to measure the constant by yet
            self.constant = before / after
        return {s: clip(self.constant / n) for s, n in norms.items()}


class GradientNormalization(Remedy):
    """Multiplies the gradients of branch i's parameters by clip(c / n_i, 0.1, 10).

    n_i is the running mean (decay 0.9) of ‖S_i‖, the measured skip gradient (``by="skip"``), of ‖dL/dy_i‖, what enters
    the branch (``"entering"``), or of ‖B_i‖/‖S_i‖ (``"ratio"``). The constant c is set in the first step such that the
    norm of all branch gradients together is what it was (the clipping aside). It amplifies
    quiet layers, and later in training all layers. The gradient that flows upstream is exact.

    Papers: Yun 2024, ZNorm (arXiv:2408.01215), and normalized gradient descent (Hazan et al. 2015,
    arXiv:1507.02030) are neighbours; dividing by the measured skip gradient is ours.

    Args:
        by: ``"skip"``, ``"entering"`` or ``"ratio"``.

    Raises:
        BadInput: no such ``by``.
    """

    name: ClassVar[str] = "gradient-normalization"
    title: ClassVar[str] = "Divide branch gradients by the size of the skip gradient"
    kind: ClassVar[RemedyKind] = "gradient"
    knobs: ClassVar[Mapping[str, Knob]] = {"by": Choice(tuple(FIGURES))}

    def __init__(self, by: str = "skip") -> None:
        self._figure = figure_of(self.name, by, FIGURES)
        self.by = by

    def plan(self, graph: SkipGraph, measured: Any = None) -> Plan:
        if not len(graph):
            raise refusal(self.name, "it has no skip, so there is no skip gradient to divide by")
        modules, left = modules_by_skip(graph)
        if not modules:
            raise refusal(self.name, "no branch has layers of its own", left)
        of = {"skip": "‖S_i‖", "entering": "‖dL/dy_i‖", "ratio": "(‖B_i‖/‖S_i‖)"}[self.by]
        what = f"gradients × clip(c / {of}, 0.1, 10) before each step"
        edits = tuple(Edit(path, what, skip) for skip, paths in modules.items() for path in paths)
        figure = self._figure
        return Plan(
            self.name,
            edits,
            left,
            _LINES.format(options="" if self.by == "skip" else f", by={self.by!r}"),
            lambda plan, model: Steering(plan, model, graph, modules, Dividing(), watch, figure),
        )


REMEDIES.register("gradient-normalization", GradientNormalization(), rank=5)
