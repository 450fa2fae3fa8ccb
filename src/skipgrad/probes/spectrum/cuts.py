"""Cuts: identities in the forward at which a gradient can be let through, stopped or caught.

A cut sits on an operand of a merge. It has a second input, the *probe*: a leaf of the operand's shape that exists only
to receive a gradient. A cut that catches hands the gradient to the probe and not to the operand, so that the backward
ends there, and the next one can start there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import GradientEdge, get_gradient_edge


class State(Enum):
    """What a cut does with the gradient that arrives."""

    PASS = "pass"
    STOP = "stop"
    CATCH = "catch"
    BOTH = "both"  # lets it through and catches it


@dataclass(eq=False)
class Cut:
    """One cut of one forward.

    Attributes:
        skip: the skip at whose merge the cut sits.
        option: the number of the branch that the operand ends; -1 for an operand that is no branch.
        probe: the leaf that receives what the cut catches.
        before: the operand's place in autograd's graph, from which a caught gradient is sent on.
        state: what the cut does with a gradient now.
    """

    skip: str
    option: int
    probe: Tensor
    before: GradientEdge
    state: State = State.PASS


class _Cut(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, probe: Tensor, cut: Cut, inplace: bool) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.cut = cut
        if inplace:
            ctx.mark_dirty(y)
            return y
        return y.detach()  # not a view: see `taps.Tap`

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> Any:
        state = ctx.cut.state
        through = grad if state in (State.PASS, State.BOTH) else None
        caught = grad if state in (State.CATCH, State.BOTH) else None
        return through, caught, None, None


def cut(y: Tensor, skip: str, option: int, *, inplace: bool) -> tuple[Tensor, Cut]:
    """An operand with a cut on it, and the cut.

    Args:
        y: the operand; requires grad.
        skip: name of the skip.
        option: see `Cut`.
        inplace: the merge writes its result into y, so that y itself must stay the object it is.
    """
    # Expanded from one element: the probe needs the operand's shape, but no memory for it.
    probe = torch.zeros((), dtype=y.dtype, device=y.device).expand(y.shape).detach().requires_grad_()
    made = Cut(skip, option, probe, get_gradient_edge(y))
    return _Cut.apply(y, probe, made, inplace), made  # type: ignore[return-value]
