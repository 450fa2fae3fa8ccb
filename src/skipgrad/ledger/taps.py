"""The slot: gradients are measured as the gradient of a small tensor.

A *tap* is an identity in the forward pass. Its backward hands the incoming gradient on untouched and, to its
further inputs, a reference to the same gradient. Those inputs come from a *gather*, whose own backward turns
the gradients of all uses of x into statistics and returns them as the gradient of its slot, a row of the
ledger's leaf tensors. So the measurement arrives as ``slot.grad``: no hooks, no globals, nothing that
``torch.compile``, checkpointing or DDP would have to know about.

Nothing here changes what flows to x: each use of x gets its own tap, made just before the use, so autograd
adds the gradients up in the order in which it would have without (a regrouped sum of three or more would not
be bitwise the same).

Figures are kept as a scale m and the norm of the tensor divided by m, because the square of a vanishing gradient
(1e-25) is zero in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from skipgrad.ledger.norms import measure, pair, plain_norm

# Columns of a gather's row.
S_MAX, S_NORM, B_MAX, B_NORM, T_MAX, T_NORM, DOT, X_SQUARE, SEEN_S, SEEN_B, SEEN = range(11)
GATHER_WIDTH = 11
# Columns of an out row (what arrives at a merge) and of a layer row (what arrives at a layer's output).
O_MAX, O_NORM, F_SQUARE, O_SEEN = range(4)
OUT_WIDTH = 4

# (role "S" or "B", None) for a use of x itself, or (role, (dim, size in all, first, length)) for the merge's own
# output, of which the slice is meant.
Spec = tuple[tuple[str, tuple[int, int, int, int] | None], ...]


class Tap(Function):
    """x, handed on; its gradient goes to x and, by reference, to every z."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *zs: Tensor) -> Tensor:
        ctx.many = len(zs)
        # Not a view of x: a module may change it in place afterwards, which autograd forbids on views made here.
        return x.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return (grad,) * (1 + ctx.many)


class Gather(Function):
    """Makes one z per use of x; backward: their gradients → statistics of S, B and S+B."""

    @staticmethod
    def forward(ctx: Any, slot: Tensor, x: Tensor, spec: Spec) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.spec = spec
        ctx.wide = slot.dtype
        ctx.x_square = _mean_square(x, slot.dtype)
        return tuple(x.new_empty_strided(_shape(x, part), (0,) * x.dim()) for _, part in spec)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        # Figures have no gradient of their own, not even where the backward itself is differentiated.
        with torch.no_grad():
            return Gather.row(ctx, grads), None, None

    @staticmethod
    def row(ctx: Any, grads: tuple[Tensor | None, ...]) -> Tensor:
        """The slot's gradient."""
        s = _total(grads, ctx.spec, "S", ctx.wide)
        b = _total(grads, ctx.spec, "B", ctx.wide)
        if s is not None and b is not None:
            quick = pair(s, b)
            if quick is not None:
                s_norm, b_norm, t_norm, dot = quick
                row = [1, s_norm, 1, b_norm, 1, t_norm, dot, float(ctx.x_square), 1, 1, 1]
                return torch.tensor(row, dtype=ctx.wide)
        one = torch.ones_like(ctx.x_square)
        none = torch.zeros_like(ctx.x_square)
        s_max, s_norm, s_unit = (none, none, none) if s is None else measure(s)
        b_max, b_norm, b_unit = (none, none, none) if b is None else measure(b)
        if s is not None and b is not None:
            t_max, t_norm, _ = measure(s + b)
            dot = (s_unit * b_unit).sum()
        else:  # one of them is none: the total is the other
            t_max, t_norm, dot = s_max + b_max, s_norm + b_norm, none
        seen_s = none if s is None else one
        seen_b = none if b is None else one
        row = [s_max, s_norm, b_max, b_norm, t_max, t_norm, dot, ctx.x_square, seen_s, seen_b, one]
        return torch.stack(row)


class Out(Function):
    """y, handed on; backward: gradient → its size, as the gradient of the slot. Carries F's mean square along."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, slot: Tensor, f_square: Tensor | None) -> Tensor:
        ctx.wide = slot.dtype
        ctx.f_square = f_square
        return y.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        with torch.no_grad():
            size, norm, _ = measure(grad.to(ctx.wide) if grad.dtype != ctx.wide else grad)
            square = torch.zeros_like(size) if ctx.f_square is None else ctx.f_square
            row = torch.stack([size, norm, square, torch.ones_like(size)])
        return grad, row, None


def mean_square(x: Tensor, wide: torch.dtype) -> Tensor:
    """Mean of the squares, outside the graph."""
    with torch.no_grad():
        return _mean_square(x, wide)


def _mean_square(x: Tensor, wide: torch.dtype) -> Tensor:
    x = x.detach()
    return plain_norm(x.to(wide) if x.dtype != wide else x).square() / max(1, x.numel())


def _shape(x: Tensor, part: tuple[int, int, int, int] | None) -> tuple[int, ...]:
    if part is None:
        return tuple(x.shape)
    dim, size, _, _ = part
    return (*x.shape[:dim], size, *x.shape[dim + 1 :])


def _total(grads: tuple[Tensor | None, ...], spec: Spec, role: str, wide: torch.dtype) -> Tensor | None:
    total: Tensor | None = None
    for grad, (kind, part) in zip(grads, spec, strict=True):
        if grad is None or kind != role:
            continue
        if part is not None:
            grad = grad.narrow(part[0], part[2], part[3])
        wider = grad.to(wide) if grad.dtype != wide else grad
        total = wider if total is None else total + wider
    return total
