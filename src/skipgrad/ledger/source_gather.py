"""The gather of a group of sources: S, B and S+B of each slice, from the gradients the skip's own gather gets, too.

Legend of the suffixes: c the dimension that is concatenated, g the sources of the group.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from skipgrad.ledger.norms import SAFE
from skipgrad.ledger.sources import Group
from skipgrad.ledger.statistics import total_of

# Columns of a source's row: those of a gather's up to DOT, and whether the group is as wide as it was in the trace.
SOURCE_SEEN = 7
SOURCE_WIDTH = 8


class SourceGather(Function):
    """Makes one z per use of x, as `taps.Gather` does; backward: their gradients → a row of statistics per source."""

    @staticmethod
    def forward(ctx: Any, slot: Tensor, x: Tensor, group: Group) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.group = group
        ctx.wide = slot.dtype
        ctx.device = slot.device
        shapes = (x.shape if part is None else _resized(x.shape, part[0], part[1]) for _, part in group.spec)
        return tuple(x.new_empty_strided(shape, (0,) * x.dim()) for shape in shapes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        with torch.no_grad():
            return source_rows(ctx.group, grads, ctx.wide, ctx.device), None, None


def _resized(shape: tuple[int, ...], dim: int, size: int) -> tuple[int, ...]:
    return (*shape[:dim], size, *shape[dim + 1 :])


def source_rows(group: Group, grads: tuple[Tensor | None, ...], wide: torch.dtype, device: torch.device) -> Tensor:
    """(sources, columns): figures of the slices of a group's gradients."""
    totals = [total_of(grads, group.spec, role, wide) for role in "SB"]
    if any(t is not None and t.shape[group.dim] != sum(group.widths) for t in totals):
        return torch.zeros(group.many, SOURCE_WIDTH, dtype=wide, device=device)  # other slices than the trace's
    none_g = torch.zeros(group.many, dtype=wide, device=device)
    s, b = totals
    s_max_g, s_norm_g, s_unit = (none_g, none_g, None) if s is None else _measured(s, group)
    b_max_g, b_norm_g, b_unit = (none_g, none_g, None) if b is None else _measured(b, group)
    t_max_g, t_norm_g, dot_g = s_max_g + b_max_g, s_norm_g + b_norm_g, none_g
    if s is not None and b is not None and s_unit is not None and b_unit is not None:
        t_max_g, t_norm_g, _ = _measured(s + b, group)
        dot_g = _sums(s_unit * b_unit, group)
    row = [s_max_g, s_norm_g, b_max_g, b_norm_g, t_max_g, t_norm_g, dot_g, torch.ones_like(none_g)]
    return torch.stack(row, 1)


def _sides(t: Tensor, dim: int) -> Tensor:
    """(before, c, after): the concatenated dimension between all that come before and all that come after."""
    return t.reshape(math.prod(t.shape[:dim]), t.shape[dim], math.prod(t.shape[dim + 1 :]))


def _sums(t: Tensor, group: Group) -> Tensor:
    """Per source the sum of all its elements, in stages: one long running sum shows in the sixth digit of float32."""
    return torch.stack([part_c.sum() for part_c in _sides(t, group.dim).sum(2).sum(0).split(list(group.widths))])


def _norms(t: Tensor, group: Group) -> Tensor:
    return _sums(t * t, group).sqrt()


def _measured(t: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Per source (m, ‖t/m‖), and t/m, with scales m that keep the squares in range; see `norms.measure`."""
    if t.device.type == "cpu" and not torch.compiler.is_compiling():
        norm_g = _norms(t, group)
        if bool(((norm_g > SAFE[0]) & (norm_g < SAFE[1])).all()):
            return torch.ones_like(norm_g), norm_g, t
    sides = _sides(t, group.dim)
    if sides.numel() == 0:
        none_g = torch.zeros(group.many, dtype=t.dtype, device=t.device)
        return none_g, none_g, t
    size_c = torch.linalg.vector_norm(sides, float("inf"), dim=(0, 2))
    parts = [p.amax().expand_as(p) if p.numel() else p for p in size_c.split(list(group.widths))]
    size_g = torch.stack([p[0] if p.numel() else p.new_zeros(()) for p in parts])
    scale_c = torch.cat(parts)
    usable_c = torch.where((scale_c > 0) & torch.isfinite(scale_c), scale_c, torch.ones_like(scale_c))
    unit = t / usable_c.view(-1, *(1 for _ in range(t.dim() - group.dim - 1)))
    return size_g, _norms(unit, group), unit
