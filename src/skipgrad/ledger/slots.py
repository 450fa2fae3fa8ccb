"""The slots of one forward, and what each backward brings to them.

A slot is a row of a small leaf tensor; its gradient is the measurement. A hook on the leaf takes the gradient out as it
arrives and files it under the backward that brought it. So two backwards through one forward are told apart, two
forwards in one backward are known to be one, and nothing is kept once autograd has freed the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from skipgrad.ledger.plan import Plan
from skipgrad.ledger.source_gather import SOURCE_WIDTH
from skipgrad.ledger.taps import GATHER_WIDTH, OUT_WIDTH

# A row of a leaf tensor is read by indexing, whose backward fills the whole tensor: leaves are kept small.
LEAF_ROWS = 32


def backward_now() -> int:
    """The number of the backward this thread is in; -1 outside of one."""
    return torch._C._current_graph_task_id()


@dataclass(eq=False)
class Arrivals:
    """What came back to one forward's slots. Holds no part of autograd's graph.

    Attributes:
        plan: of the forward.
        scale: what the loss was multiplied by at the time.
        number: of the forward.
        grads: backward → leaf → its gradient.
        refused: gathers whose figures would be of a part only, with the reason.
        inbox: takes this object when something arrives.
        outer: the backward inside which a reentrant checkpoint runs one of its own.
        seen: whether anything ever arrived.
        dropped: the forward made other calls than its trace, so its figures are of nobody knows what.
    """

    plan: Plan
    scale: float
    number: int
    inbox: list[Arrivals]
    grads: dict[int, dict[int, Tensor]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    outer: int = -1
    seen: bool = False
    dropped: bool = False

    def hook(self, leaf_number: int) -> Callable[[Tensor], None]:
        """What the leaf of that number calls when its gradient is there."""

        def arrived(leaf: Tensor) -> None:
            assert leaf.grad is not None
            grads = self.grads.setdefault(self.outer if self.outer >= 0 else backward_now(), {})
            before = grads.get(leaf_number)
            # The rows of one leaf may arrive in two parts, inside a reentrant checkpoint and outside of it.
            grads[leaf_number] = leaf.grad if before is None else before + leaf.grad
            leaf.grad = None
            self.seen = True
            if self not in self.inbox:
                self.inbox.append(self)

        return arrived

    def inside(self) -> None:
        """Says that a backward inside the present one follows: what it brings counts as the present one's."""
        if self.outer < 0:
            self.outer = backward_now()
            torch.autograd.Variable._execution_engine.queue_callback(self._outside)

    def _outside(self) -> None:
        self.outer = -1


class Slots:
    """The leaf tensors of one forward, whose gradients are the measurement.

    Attributes:
        gathers: leaves of the gathers' rows.
        outs: leaves of the out rows.
        layers: leaves of the layers' rows.
        sources: one leaf per group of sources, a row for each.
        arrivals: where their gradients go.
    """

    def __init__(self, arrivals: Arrivals, device: torch.device) -> None:
        plan = arrivals.plan
        self.arrivals = arrivals
        self.gathers = _leaves(len(plan.specs), GATHER_WIDTH, plan.dtype, device)
        self.outs = _leaves(plan.outs, OUT_WIDTH, plan.dtype, device)
        self.layers = _leaves(len(plan.layers), OUT_WIDTH, plan.dtype, device)
        self.sources = [leaf for g in plan.groups for leaf in _leaves(g.many, SOURCE_WIDTH, plan.dtype, device, g.many)]
        for number, leaf in enumerate((*self.gathers, *self.outs, *self.layers, *self.sources)):
            leaf.register_post_accumulate_grad_hook(arrivals.hook(number))

    def keep_sizes(self) -> None:
        """Tells the compiler that a leaf's size is no size of the batch, even where the two happen to be the same."""
        for leaf in (*self.gathers, *self.outs, *self.layers, *self.sources):
            torch._dynamo.mark_static(leaf)

    def gather(self, row: int) -> Tensor:
        """The slot of a gather."""
        return self.gathers[row // LEAF_ROWS][row % LEAF_ROWS]

    def out(self, row: int) -> Tensor:
        """The slot of an out row."""
        return self.outs[row // LEAF_ROWS][row % LEAF_ROWS]

    def layer(self, row: int) -> Tensor:
        """The slot of a layer row."""
        return self.layers[row // LEAF_ROWS][row % LEAF_ROWS]


@dataclass
class Rows:
    """The figures of one backward through one forward, row by row; a row it did not reach is zeros."""

    gathers: list[list[float]]
    outs: list[list[float]]
    layers: list[list[float]]
    sources: list[list[list[float]]]  # per group


def rows_of(plan: Plan, grads: dict[int, Tensor]) -> Rows:
    """The rows of the leaves' gradients, in the order in which `Slots` numbers the leaves."""
    first = 0
    parts: list[list[list[float]]] = []
    for many, width in ((len(plan.specs), GATHER_WIDTH), (plan.outs, OUT_WIDTH), (len(plan.layers), OUT_WIDTH)):
        rows: list[list[float]] = []
        for k in range(0, many, LEAF_ROWS):
            grad = grads.get(first)
            rows += [[0.0] * width] * min(LEAF_ROWS, many - k) if grad is None else grad.tolist()
            first += 1
        parts.append(rows)
    groups = [
        [[0.0] * SOURCE_WIDTH] * g.many if (grad := grads.get(first + k)) is None else grad.tolist()
        for k, g in enumerate(plan.groups)
    ]
    gathers, outs, layers = parts
    return Rows(gathers, outs, layers, groups)


def _leaves(rows: int, width: int, dtype: torch.dtype, device: torch.device, most: int = LEAF_ROWS) -> list[Tensor]:
    sizes = [min(most, rows - k) for k in range(0, rows, most)]
    return [torch.zeros(n, width, dtype=dtype, device=device, requires_grad=True) for n in sizes]
