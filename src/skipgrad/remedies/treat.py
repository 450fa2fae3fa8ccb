"""Plan and apply in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from skipgrad.core.graph import SkipGraph
from skipgrad.remedies.plan import Applied
from skipgrad.remedies.records import Left, Verification
from skipgrad.remedies.registry import remedy
from skipgrad.remedies.skip_calibration import SkipCalibration, calibrate


class Sweeps(Applied):
    """Several sweeps of one remedy, as one."""

    def __init__(self, sweeps: list[Applied]) -> None:
        last = sweeps[-1]
        super().__init__(replace(last.plan), last.given)
        self.sweeps = sweeps
        self.skipped: tuple[Left, ...] = tuple(dict.fromkeys(s for sweep in sweeps for s in sweep.skipped))

    @property
    def lines(self) -> str:
        first, *rest = (s.lines for s in self.sweeps)
        head = "import torch\n\n"
        return first + "".join("\n" + text.removeprefix(head) for text in rest)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(n for s in self.sweeps for n in s.notes)

    def _do(self) -> None: ...

    def _revert(self) -> None:
        for sweep in reversed(self.sweeps):
            sweep.undo()

    def start(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Its sweeps are in force already."""

    def undo(self) -> None:
        """Takes all sweeps back, the last first."""
        if not self._undone and self.sweeps[-1]._entry is not None:
            self._revert()
            self._undone = True
        else:
            self.sweeps[-1].undo()  # says why not

    def __exit__(self, *exc: Any) -> None:
        if not self._undone:
            self.undo()

    def verify(
        self,
        example: Any = None,
        *,
        kwargs: dict[str, Any] | None = None,
        measured: Any = None,
        loss: Callable[[], torch.Tensor] | None = None,
    ) -> Verification:
        """Checks the last sweep, which is what decides."""
        return self.sweeps[-1].verify(example, kwargs=kwargs, measured=measured, loss=loss)


def treat(
    name: str,
    model: nn.Module,
    graph: SkipGraph,
    *,
    measured: Any = None,
    measure: Callable[[nn.Module], Any] | None = None,
) -> Applied:
    """Plans and applies a remedy; afterwards build the optimizer and call ``attach(optimizer)``.

    Args:
        name: the remedy's.
        model: edited in place.
        graph: its skips.
        measured: measurements of the untreated model.
        measure: runs a forward and a backward and returns measurements. skip-calibration then does three sweeps
            of measuring and calibrating instead of one from ``measured``.

    Raises:
        RemedyRefused: it does not apply; the model is as it was.
        MeasureError: it needs measurements that are not there.
        UnknownName: no such remedy.
    """
    cure = remedy(name)
    if isinstance(cure, SkipCalibration) and measure is not None:
        return Sweeps(calibrate(model, graph, measure, remedy=cure))
    return cure.plan(graph, measured).apply(model)
