"""Turns the tensors that arrive in a backward into rows of figures.

A norm is kept as two figures, a scale m and the norm of the tensor divided by m, because the square of a vanishing
gradient (1e-25) is zero in float32. On a CPU a row is a list of numbers. On other devices and in a compiled graph it is
a tensor, because reading a number would stop the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skipgrad.ledger.norms import (
    NEIGHBOURS,
    in_one_pass,
    looked_at,
    measure,
    pair,
    plain_norm,
    root,
    sample,
    size_of,
    squares,
)

# Columns of a gather's row.
S_MAX, S_NORM, B_MAX, B_NORM, T_MAX, T_NORM, DOT, X_SQUARE, SEEN_S, SEEN_B, SEEN = range(11)
GATHER_WIDTH = 11
# Columns of an out row (what arrives at a merge) and of a layer row (what arrives at a layer's output).
O_MAX, O_NORM, F_SQUARE, O_SEEN = range(4)
OUT_WIDTH = 4

# Per use: (role "S" or "B", None) for a use of x itself; or (role, (dim, size in all, first, length)) where the
# gradient is that of the merge's own output, and only this slice of it counts.
Spec = tuple[tuple[str, tuple[int, int, int, int] | None], ...]
Row = list[float] | Tensor
Square = float | Tensor
# The sizes of x and F are read from a sample: of a larger tensor 65,536 elements, in so many blocks.
BLOCKS = 4096


def gathered(
    grads: tuple[Tensor | None, ...],
    spec: Spec,
    wide: torch.dtype,
    x_square: Square,
) -> Row:
    """The row of a gather.

    Args:
        grads: the gradient of each use of x, None where none arrived.
        spec: what each use is.
        wide: dtype to compute in.
        x_square: mean square of x.
    """
    s = total_of(grads, spec, "S", wide)
    b = total_of(grads, spec, "B", wide)
    if s is not None and b is not None:
        quick = pair(s, b)
        if quick is not None:  # the sizes were in a safe range, so that every scale m is 1
            s_norm, b_norm, t_norm, dot = quick
            return [1, s_norm, 1, b_norm, 1, t_norm, dot, float(x_square), 1, 1, 1]
        if in_one_pass(s):
            return _in_one_pass(s, b, wide, x_square)
    some = s if s is not None else b
    if some is None:
        return [0.0] * X_SQUARE + [float(x_square), 0, 0, 1]
    if not isinstance(x_square, Tensor):
        x_square = torch.tensor(x_square, dtype=wide, device=some.device)
    one = torch.ones_like(x_square)
    none = torch.zeros_like(x_square)
    s_max, s_norm, s_unit = (none, none, none) if s is None else measure(s)
    b_max, b_norm, b_unit = (none, none, none) if b is None else measure(b)
    if s is not None and b is not None:
        t_max, t_norm, _ = measure(s + b)
        dot = (s_unit * b_unit).sum()
    else:  # one of them is none: the total is the other
        t_max, t_norm, dot = s_max + b_max, s_norm + b_norm, none
    seen_s = none if s is None else one
    seen_b = none if b is None else one
    row = torch.stack([s_max, s_norm, b_max, b_norm, t_max, t_norm, dot, x_square, seen_s, seen_b, one])
    return row.tolist() if looked_at(row) else row


def _in_one_pass(s: Tensor, b: Tensor, wide: torch.dtype, x_square: Square) -> Tensor:
    """The row of S and B where neither has to be scaled first: four sums over one reading of the two."""
    a, c = s.double(), b.double()
    s_max, s_norm = root((a * a).sum(), wide)
    b_max, b_norm = root((c * c).sum(), wide)
    t_max, t_norm = root(((a + c) * (a + c)).sum(), wide)
    dot = ((a * c).sum() / (s_max.double() * b_max.double())).to(wide)
    square = x_square if isinstance(x_square, Tensor) else torch.full_like(s_norm, x_square)
    one = torch.ones_like(s_norm)
    return torch.stack([s_max, s_norm, b_max, b_norm, t_max, t_norm, dot, square, one, one, one])


def arrived(grad: Tensor, wide: torch.dtype) -> Row:
    """The row of what arrives at a merge or a layer."""
    grad = grad.to(wide) if grad.dtype != wide else grad
    if looked_at(grad):
        return out_row(*size_of(grad))
    if in_one_pass(grad):
        size, norm = root(grad.double().square().sum(), wide)
    else:
        size, norm, _ = measure(grad)
    return torch.stack([size, norm, torch.zeros_like(size), torch.ones_like(size)])


def out_row(size: Square, norm: Square) -> list[float]:
    """The row of a gradient whose size is known."""
    return [float(size), float(norm), 0.0, 1.0]


def with_square(row: Row, square: Square | None) -> Row:
    """The row of a merge, with F's mean square."""
    if square is None:
        return row
    if isinstance(row, Tensor):
        square = square if isinstance(square, Tensor) else torch.full_like(row[0], square)
        return torch.stack([row[O_MAX], row[O_NORM], square, row[O_SEEN]])
    return [row[O_MAX], row[O_NORM], float(square), row[O_SEEN]]


def mean_square(x: Tensor, wide: torch.dtype) -> float | Tensor:
    """Mean of the squares, outside the graph; of a large tensor that can be looked at, the mean over a sample."""
    x = x.detach()
    if not looked_at(x):
        return plain_norm(x.to(wide) if x.dtype != wide else x).square() / max(1, x.numel())
    some = sample(x, BLOCKS) if x.numel() > 2 * BLOCKS * NEIGHBOURS else x
    return squares(some, wide) / max(1, some.numel())


def total_of(grads: tuple[Tensor | None, ...], spec: Spec, role: str, wide: torch.dtype) -> Tensor | None:
    """The sum of the gradients of one role, S or B; None when none came."""
    # In the order of the uses and not of arrival, so that the sum is the same to the bit in every run.
    total: Tensor | None = None
    for grad, (kind, part) in zip(grads, spec, strict=True):
        if grad is None or kind != role:
            continue
        if part is not None:
            grad = grad.narrow(part[0], part[2], part[3])
        wider = grad.to(wide) if grad.dtype != wide else grad
        total = wider if total is None else total + wider
    return total
