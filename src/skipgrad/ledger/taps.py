"""The slot: gradients are measured as the gradient of a small tensor.

A *tap* is an identity in the forward pass. Its backward hands the incoming gradient on untouched and, to its
further inputs, a reference to the same gradient. Those inputs come from a *gather*, whose own backward turns
the gradients of all uses of x into statistics and returns them as the gradient of its slot, a row of the
ledger's leaf tensors. So the measurement arrives as ``slot.grad``: no hooks, no globals, nothing that
``torch.compile``, checkpointing or DDP would have to know about.

Nothing here changes what flows to x: each use of x gets its own tap, made just before the use, so autograd
adds the gradients up in the order in which it would have without (a regrouped sum of three or more would not
be bitwise the same).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from skipgrad.ledger.statistics import Row, Spec, Square, arrived, gathered, mean_square, with_square


class Tap(Function):
    """Hands x on unchanged. Backward: the gradient goes to x and, by reference, to every z."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *zs: Tensor) -> Tensor:
        ctx.many = len(zs)
        # Not a view of x: a module may change it in place afterwards, which autograd forbids on views made here.
        return x.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return (grad,) * (1 + ctx.many) if ctx.many else grad


class Gather(Function):
    """Makes one z for each use of x. Backward: statistics of S, B and S+B, made of their gradients, go to the slot."""

    @staticmethod
    def forward(ctx: Any, slot: Tensor, x: Tensor, spec: Spec) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.spec = spec
        ctx.wide = slot.dtype
        ctx.x_square = mean_square(x, slot.dtype)
        # Strides of zero: a z needs the shape that its gradient will have, but no memory for values.
        return tuple(x.new_empty_strided(_shape(x, part), (0,) * x.dim()) for _, part in spec)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        # Figures have no gradient of their own, not even where the backward itself is differentiated.
        with torch.no_grad():
            return _tensor(gathered(grads, ctx.spec, ctx.wide, ctx.x_square), ctx.wide), None, None


class Out(Function):
    """Hands y on unchanged. Backward: the size of the gradient becomes the slot's gradient, with F's mean square."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, slot: Tensor, f_square: Square | None) -> Tensor:
        ctx.wide = slot.dtype
        ctx.f_square = f_square
        return y.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        with torch.no_grad():
            return grad, _tensor(with_square(arrived(grad, ctx.wide), ctx.f_square), ctx.wide), None


def _tensor(row: Row, wide: torch.dtype) -> Tensor:
    return row if isinstance(row, Tensor) else torch.tensor(row, dtype=wide)


def _shape(x: Tensor, part: tuple[int, int, int, int] | None) -> tuple[int, ...]:
    if part is None:
        return tuple(x.shape)
    dim, size, _, _ = part
    return (*x.shape[:dim], size, *x.shape[dim + 1 :])
