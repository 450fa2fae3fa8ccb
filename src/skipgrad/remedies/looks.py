"""Looks at D while a training goes on: two forwards without gradient around each step that is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from skipgrad.core.changes import ChangeRow
from skipgrad.core.errors import BadInput, RemedyRefused, SkipgradError
from skipgrad.core.graph import SkipGraph
from skipgrad.instrument.faults import explained
from skipgrad.instrument.wrappers import peel
from skipgrad.remedies.change import Change, on_branches
from skipgrad.remedies.retrofit import spots
from skipgrad.remedies.retrofit.design import short_add
from skipgrad.remedies.retrofit.places import Spot

DOING = "measuring what a step changes of the branches"


def measurable(who: str, graph: SkipGraph) -> tuple[list[Spot], list[Spot], list[Any]]:
    """The operands that branches and shortcuts of the short adds bring, and the skips that cannot be measured."""
    branches, left = spots(who, graph, short_add)
    shortcuts, more = spots(who, graph, short_add, "shortcut")
    known = {n for s in shortcuts for n in s.skips}
    return [s for s in branches if s.skips[0] in known], shortcuts, [*left, *more]


class Looks:
    """Measures D around the steps that are due.

    Args:
        measure: what measures it.
        model: that is called, whose inputs of the step are used.
        optimizer: whose steps are looked at.
        due: asked before each step.
        told: called after it with what each skip's branch changed, and the optimizer's rate before the step.
        failed: called when a look cannot be had (another route than the graph's), which ends the looks; the error is
            raised, from the optimizer's step, when None.
    """

    def __init__(
        self,
        measure: Change,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        due: Callable[[], bool],
        told: Callable[[dict[str, float], float], Any],
        failed: Callable[[SkipgradError], Any] | None = None,
    ) -> None:
        self._measure, self._due, self._told, self._failed = measure, due, told, failed
        self._model = model
        self._batch: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self._looking, self._rate = False, 0.0
        self._handles: list[Any] = [
            model.register_forward_pre_hook(self._seen, with_kwargs=True),
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def end(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._batch = None
        self._measure.forget()

    def _seen(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled():  # an evaluation in between is not the step's batch
            self._batch = args, kwargs

    def _before(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self._looking = self._batch is not None and self._due()
        if self._looking:
            assert self._batch is not None
            self._rate = float(optimizer.param_groups[0]["lr"])
            with self._guarded():
                self._measure.before(*self._batch)

    def _after(self, _optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self._batch = None
        if self._looking:
            self._looking = False
            with self._guarded():
                self._told(self._measure.after(), self._rate)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with explained(self._model, DOING):
                yield
        except SkipgradError as error:
            self._looking = False
            if self._failed is None:
                raise
            self.end()
            self._failed(error)


@contextmanager
def changes(
    model: nn.Module,
    graph: SkipGraph,
    optimizer: torch.optim.Optimizer,
    *,
    every: int = 10,
    told: Callable[[ChangeRow], Any] | None = None,
    failed: Callable[[SkipgradError], Any] | None = None,
) -> Iterator[list[ChangeRow]]:
    """Inside it D of every ``every``-th step is measured: how much the step changed what the branches do.

    D = Σᵢ ‖Fᵢ(xᵢ; W + ΔW) − Fᵢ(xᵢ; W)‖ / ‖xᵢ‖. A look costs two forwards without gradient on the batch of the step,
    and leaves weights, buffers, gradients and random states as they were.

    Args:
        model: that is trained.
        graph: its skips.
        optimizer: its optimizer.
        every: steps from one look to the next; the first is at step ``every − 1``.
        told: called with each row, e.g. ``ledger.change_at``, so that `sg.diagnose` sees it (SG014).
        failed: called when a look cannot be had, which ends the looks; the error is raised when None.

    Yields:
        The rows, one a look.

    Raises:
        BadInput: ``every`` is no number of steps.
        RemedyRefused: no branch's change can be measured.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise BadInput(DOING, where="every", received=repr(every), todo="give a number of steps")
    branches, shortcuts, left = measurable(DOING, graph)
    if not branches:
        why = f"; {left[0].skip}: {left[0].reason}" if left else ""
        raise RemedyRefused(
            DOING,
            received=f"{len(graph)} skips, none of them a short add whose branch can be measured{why}",
            todo="give a net with residual blocks",
        )
    rows: list[ChangeRow] = []
    taken = 0

    def due() -> bool:
        nonlocal taken
        taken += 1
        return taken % every == 0

    def row(found: dict[str, float], rate: float) -> None:
        most = max(found, key=lambda n: found[n], default="")
        rows.append(
            ChangeRow(taken - 1, sum(found.values()), rate, len(found), most, found.get(most, 0.0))
        )  # fmt: skip
        if told is not None:
            told(rows[-1])

    measure = Change(peel(model)[0], branches, shortcuts, on_branches(graph, branches), DOING)
    looks = Looks(measure, model, optimizer, due, row, failed)
    try:
        yield rows
    finally:
        looks.end()
