"""What backwards bring to the taps of one forward, filed by the number of the backward that brought it.

By that number two backwards through one forward are told apart, and two forwards of one backward are known to belong
together. Nothing in here keeps autograd's graph alive.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from skipgrad.ledger.edges import LEAF
from skipgrad.ledger.joined import Joined
from skipgrad.ledger.plan import TapPlan, Wants
from skipgrad.ledger.source_gather import SOURCE_WIDTH, source_rows
from skipgrad.ledger.statistics import (
    GATHER_WIDTH,
    OUT_WIDTH,
    S_MAX,
    S_NORM,
    Row,
    Square,
    arrived,
    gathered,
    out_row,
    with_square,
)

# A slot is read by indexing a leaf, whose backward fills the whole leaf: leaves are kept small.
LEAF_ROWS = 32
_WHOLE_S = ("S", None)
# Nodes that are searched for a parameter. With none among them the backward counts as one of the training.
_LOOKED_AT = 256


def backward_now() -> int:
    """The number of the backward that is running in this thread; -1 when none is."""
    return torch._C._current_graph_task_id()


@dataclass
class Rows:
    """The figures of one backward through one forward, row by row; a row that nothing arrived for is all zeros."""

    gathers: list[list[float]]
    outs: list[list[float]]
    layers: list[list[float]]
    sources: list[list[list[float]]]  # per group


@dataclass(eq=False)
class Part:
    """What one backward brought: finished rows, and gradients that wait until those of the other uses have come."""

    gathers: dict[int, Row] = field(default_factory=dict)
    outs: dict[int, Row] = field(default_factory=dict)
    layers: dict[int, Row] = field(default_factory=dict)
    waiting: dict[int, dict[int, Tensor]] = field(default_factory=dict)
    put_off: dict[int, list[Wants]] = field(default_factory=dict)  # gather → other rows that its S's size goes into
    sources: dict[int, Tensor] = field(default_factory=dict)  # group → rows of its sources
    leaves: dict[int, Tensor] = field(default_factory=dict)  # gradients of slots, by number of the leaf
    fresh: bool = False  # the weights had no gradient when the backward began
    ended: bool = False  # the backward is over, and was not broken off


@dataclass(eq=False)
class Arrivals:
    """The gradients that came back to one forward, and the rows made of them. Holds no part of autograd's graph.

    Attributes:
        plan: what is measured of the forward.
        scale: the number the loss was multiplied by at the time (GradScaler).
        number: the number of the forward in the watch.
        inbox: a list that this object adds itself to when something arrives.
        fresh: tells whether the weights have no gradient as yet.
        parts: number of a backward → what it brought.
        x_squares: gather → mean square of its x.
        f_squares: out row → mean square of F.
        refused: gather → why its figures would be of only a part of S or B.
        outer: the backward inside which a reentrant checkpoint runs one of its own; -1 when there is none.
        passed_over: the last backward that does not belong to the training (``torch.autograd.grad``).
        joined: uses of x of which a part has come in a backward that goes on.
        absent: gather → how many of its uses of x send nothing back.
        thread: that ran the forward.
        seen: whether anything ever arrived.
        told: whether it is counted among those to which something arrived.
        dropped: whether the forward made other calls than its trace, so that nobody knows what its figures are of.
    """

    plan: TapPlan
    scale: float
    number: int
    inbox: list[Arrivals]
    fresh: Callable[[], bool] = lambda: False
    parts: dict[int, Part] = field(default_factory=dict)
    x_squares: dict[int, Square] = field(default_factory=dict)
    f_squares: dict[int, Square] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    outer: int = -1
    passed_over: int = -1
    joined: list[Joined] = field(default_factory=list)
    absent: dict[int, int] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)
    seen: bool = False
    told: bool = False
    dropped: bool = False

    def backward(self) -> int:
        """The number of the backward that what comes now is filed under."""
        return self.outer if self.outer >= 0 else backward_now()

    def without(self, wants: Wants) -> None:
        """Told of a use of x that sends nothing back, so that nobody waits for it."""
        for gather, _ in wants.taps:
            self.absent[gather] = self.absent.get(gather, 0) + 1

    def refuse(self, wants: Wants, reason: str) -> None:
        """Told of a use of x that cannot be read."""
        self.refused.update((gather, reason) for gather, _ in wants.taps if gather >= 0)

    def part(self, accumulates: bool = False) -> Part | None:
        """Where what the present backward brings is filed; None when that backward does not belong to the training.

        Args:
            accumulates: it is known to add to ``.grad``, so that nothing needs to be looked up.
        """
        number = self.backward()
        part = self.parts.get(number)
        if part is not None or number == self.passed_over:
            return part
        if not accumulates and not _accumulates():
            self.passed_over = number
            return None
        part = self.parts[number] = Part(fresh=self.fresh())
        self.seen = True
        if self not in self.inbox:
            self.inbox.append(self)
        if self.outer < 0:  # else `_outside` finishes it: a callback now would run at the end of the inner backward
            torch.autograd.Variable._execution_engine.queue_callback(lambda: self._finish(part))
        return part

    def take(self, found: Sequence[tuple[Tensor, Wants]]) -> None:
        """Takes gradients in, with what is wanted of each."""
        if torch.is_grad_enabled():
            with torch.no_grad():  # figures have no gradient of their own
                self.take(found)
            return
        part = self.part()
        if part is None:
            return
        for grad, wants in found:
            if wants.outs or wants.layers:
                gather = self._shortcut_of(grad, found)
                if gather is None:
                    self._rows(part, wants, arrived(grad, self.plan.dtype))
                else:  # dL/dy that goes through an identity is S: its size is read with S's
                    part.put_off.setdefault(gather, []).append(wants)
            for gather, z in wants.taps:
                self._wait(part, gather, z, grad)

    def _shortcut_of(self, grad: Tensor, found: Sequence[tuple[Tensor, Wants]]) -> int | None:
        """The gather whose whole S is this very tensor, so that its size need not be read twice; None when none is."""
        if grad.device.type != "cpu":
            return None  # the figures of S would have to be fetched from the device to be copied, which stops it
        for other, wants in found:
            if other is grad:
                for gather, z in wants.taps:
                    spec = self.plan.spec(gather)
                    if gather >= 0 and spec[z] == _WHOLE_S and sum(role == "S" for role, _ in spec) == 1:
                        return gather
        return None

    def _rows(self, part: Part, wants: Wants, row: Row) -> None:
        """Files the size of a gradient wherever it is wanted."""
        for i in wants.outs:
            _put(part.outs, i, with_square(row, self.f_squares.get(i, math.nan)))
        for i in wants.layers:
            _put(part.layers, i, row)

    def _wait(self, part: Part, gather: int, z: int, grad: Tensor) -> None:
        waiting = part.waiting.setdefault(gather, {})
        if z in waiting:  # the same use once more in this backward: close the row, so that its "seen" becomes 2
            self._close(part, gather)
            waiting = part.waiting.setdefault(gather, {})
        waiting[z] = grad
        if len(waiting) + self.absent.get(gather, 0) >= len(self.plan.spec(gather)):
            self._close(part, gather)

    def _close(self, part: Part, gather: int) -> None:
        waiting = part.waiting.pop(gather, None)
        if waiting is None:
            return
        spec = self.plan.spec(gather)
        grads = tuple(waiting.get(z) for z in range(len(spec)))
        if gather < 0:
            device = next(iter(waiting.values())).device
            rows = source_rows(self.plan.groups[~gather], grads, self.plan.dtype, device)
            before = part.sources.get(~gather)
            part.sources[~gather] = rows if before is None else before + rows
            return
        row = gathered(grads, spec, self.plan.dtype, self.x_squares.get(gather, math.nan))
        for wants in part.put_off.pop(gather, ()):
            self._rows(part, wants, out_row(row[S_MAX], row[S_NORM]))
        _put(part.gathers, gather, row)

    def _finish(self, part: Part) -> None:
        """Closes the gathers that still wait at the end of a backward: what has not come by now will not come."""
        with torch.no_grad():
            part.ended = True
            number = next((n for n, p in self.parts.items() if p is part), -1)
            joined, self.joined = self.joined, []
            for use in joined:
                use.finish(number)
            for gather in list(part.waiting):
                self._close(part, gather)

    def inside(self) -> None:
        """Announces a backward inside the present one; what it brings is filed under the present one."""
        if self.outer < 0:
            self.outer = backward_now()
            torch.autograd.Variable._execution_engine.queue_callback(self._outside)

    def _outside(self) -> None:
        if self.outer in self.parts:
            self._finish(self.parts[self.outer])
        self.outer = -1

    def over(self) -> list[int]:
        """The backwards that are over: those that ended, and those that this thread began and that were broken off."""
        mine = self.thread == threading.get_ident()
        return [number for number, part in list(self.parts.items()) if part.ended or mine]

    def taken(self, number: int) -> Rows:
        """Takes out what one backward brought."""
        part, plan = self.parts.pop(number), self.plan
        part.waiting.clear()  # only a backward that was broken off by an error leaves something here
        first = 0  # leaves are numbered in the order in which `Slots` makes them: gathers, outs, layers, sources
        for rows, many in ((part.gathers, len(plan.specs)), (part.outs, plan.outs), (part.layers, len(plan.layers))):
            for k in range(0, many, LEAF_ROWS):
                leaf = part.leaves.pop(first, None)
                first += 1
                for i, row in enumerate(leaf.tolist() if leaf is not None else ()):
                    _put(rows, k + i, row)
        return Rows(
            _listed(part.gathers, len(plan.specs), GATHER_WIDTH),
            _listed(part.outs, plan.outs, OUT_WIDTH),
            _listed(part.layers, len(plan.layers), OUT_WIDTH),
            [
                [[0.0] * SOURCE_WIDTH] * group.many
                if (found := part.sources.get(k, part.leaves.get(first + k))) is None
                else found.tolist()
                for k, group in enumerate(plan.groups)
            ],
        )


def _accumulates() -> bool:
    """Whether the present backward adds to the gradients of parameters; ``torch.autograd.grad`` does not."""
    pending: list[Any] = [torch._C._current_autograd_node()]
    seen, known = set(pending), False
    for node in pending:  # grows as it goes: the nearest first
        for below, _ in node.next_functions:
            if below is None or below in seen:
                continue
            if below.name() == LEAF:
                if isinstance(below.variable, torch.nn.Parameter):
                    known = True
                    try:
                        if torch._C._will_engine_execute_node(below):
                            return True
                    except RuntimeError:  # "currently running autograd.grad()", and this parameter is asked for
                        return False
                    seen.add(below)  # ``backward(inputs=…)`` may leave this one out
            elif len(seen) < _LOOKED_AT:
                seen.add(below)
                pending.append(below)
    return not known


def _put(rows: dict[int, Row], i: int, row: Row) -> None:
    """Files a row. One that is there already is added to it, so that its column "seen" says how many came."""
    before = rows.get(i)
    if before is None:
        rows[i] = row
    elif isinstance(before, list) and isinstance(row, list):
        rows[i] = [a + b for a, b in zip(before, row, strict=True)]
    else:
        rows[i] = torch.as_tensor(before) + torch.as_tensor(row).to(torch.as_tensor(before).device)


def _listed(rows: dict[int, Row], many: int, width: int) -> list[list[float]]:
    """The rows as numbers, those on a device fetched in one transfer."""
    out = [[0.0] * width] * many
    fetched = [i for i, row in rows.items() if isinstance(row, Tensor)]
    if fetched:
        tensors = [row for row in rows.values() if isinstance(row, Tensor)]
        same = all(t.device == tensors[0].device for t in tensors)
        stacked = torch.stack(tensors if same else [t.cpu() for t in tensors])
        for i, numbers in zip(fetched, stacked.tolist(), strict=True):
            out[i] = numbers
    for i, row in rows.items():
        if isinstance(row, list):
            out[i] = row
    return out
