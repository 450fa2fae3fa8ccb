"""The leaf tensors of one forward, whose gradients are the measurement.

A slot is a row of a small leaf tensor. A hook on the leaf takes the gradient out as it arrives and files it under the
backward that brought it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skipgrad.ledger.arrivals import LEAF_ROWS, Arrivals
from skipgrad.ledger.source_gather import SOURCE_WIDTH
from skipgrad.ledger.statistics import GATHER_WIDTH, OUT_WIDTH


class Slots:
    """The leaves of one forward.

    Args:
        arrivals: where their gradients go.
        device: of the model.
        fixed: tells the compiler that a leaf's size never changes. Where it happens to equal the size of the batch, the
            compiler would else take the two for one size.
    """

    def __init__(self, arrivals: Arrivals, device: torch.device, *, fixed: bool = False) -> None:
        plan = arrivals.plan
        self.gathers = _leaves(len(plan.specs), GATHER_WIDTH, plan.dtype, device)
        self.outs = _leaves(plan.outs, OUT_WIDTH, plan.dtype, device)
        self.layers = _leaves(len(plan.layers), OUT_WIDTH, plan.dtype, device)
        self.sources = [leaf for g in plan.groups for leaf in _leaves(g.many, SOURCE_WIDTH, plan.dtype, device, g.many)]
        for number, leaf in enumerate((*self.gathers, *self.outs, *self.layers, *self.sources)):
            leaf.register_post_accumulate_grad_hook(_hook(arrivals, number))
            if fixed:
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


def _hook(arrivals: Arrivals, number: int) -> Callable[[Tensor], None]:
    def arrived(leaf: Tensor) -> None:
        assert leaf.grad is not None
        part = arrivals.part(accumulates=True)
        assert part is not None
        before = part.leaves.get(number)
        # The rows of one leaf may arrive in two parts, inside a reentrant checkpoint and outside of it.
        part.leaves[number] = leaf.grad if before is None else before + leaf.grad
        leaf.grad = None

    return arrived


def _leaves(rows: int, width: int, dtype: torch.dtype, device: torch.device, most: int = LEAF_ROWS) -> list[Tensor]:
    sizes = [min(most, rows - k) for k in range(0, rows, most)]
    return [torch.zeros(n, width, dtype=dtype, device=device, requires_grad=True) for n in sizes]
