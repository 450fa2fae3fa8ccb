"""What the optimizer's step did to the weights of each layer: they are read before it and compared after it.

All weights of one device are read with a handful of calls, and their figures fetched in one transfer. Elements are
counted by the norm of a row of zeros and ones, whose square is the number of ones, because that is the fastest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.ledger.norms import NEIGHBOURS, SAFE, norm_of, sample

_torch: Any = torch  # whose types leave out the functions on lists


@dataclass
class WeightStats:
    """Figures of one layer's weights in one step; see `LayerRow`."""

    weight_norm: float
    weight_grad_norm: float | None
    update_norm: float | None
    stalled: float | None
    zero_grad: float | None
    weights: int
    dtype: str
    finite: bool


# Copying and comparing every weight of a big net would cost more than its step, so that 16,384 elements (these blocks
# of `NEIGHBOURS` each) stand for a larger weight.
BLOCKS = 1024
# The norm of a large weight is taken as its sample's times the ratio of the two, which is measured anew after this many
# readings.
RENEWED = 100


@dataclass
class _Weight:
    """One parameter of a layer."""

    layer: str
    param: nn.Parameter
    many: int
    sampled: int
    ratio: float = 1.0  # its norm, over that of its sample


@dataclass
class _Group:
    """The weights of one device and precision, with two rows that hold a figure for each element of their samples.

    The rows are made once: fresh memory at every step costs more than what is written to it.
    """

    wide: torch.dtype
    device: torch.device
    weights: list[_Weight] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    parts: list[list[Tensor]] = field(default_factory=list)
    kept: bool = False
    graded: bool = False
    zeros: bool = False  # there were gradients that are zero

    def row(self, number: int) -> tuple[Tensor, list[Tensor]]:
        """A row (0 is the weights', 1 the gradients'), and its part for each weight as a view."""
        if not self.rows:
            sizes = [w.sampled for w in self.weights]
            self.rows = [torch.empty(sum(sizes), dtype=self.wide, device=self.device) for _ in range(2)]
            self.parts = [
                [
                    part if w.sampled == w.many else part.view(BLOCKS, NEIGHBOURS)
                    for w, part in zip(self.weights, row.split(sizes), strict=True)
                ]
                for row in self.rows
            ]
        return self.rows[number], self.parts[number]


class WeightWatch:
    """Follows the weights of the layers through optimizer steps.

    Args:
        model: owns them.
        layers: names of the weights of each layer.
        named: its parameters by name, where those it has just now are not those the optimizer steps.

    Of a weight that is spread over several processes, only this process's part is followed.
    """

    def __init__(
        self, model: nn.Module, layers: dict[str, tuple[str, ...]], named: dict[str, nn.Parameter] | None = None
    ) -> None:
        if named is None:
            named = dict(model.named_parameters(remove_duplicate=False))
        self._dtypes: dict[str, str] = {}
        self._many: dict[str, int] = {}
        groups: dict[tuple[torch.device, torch.dtype], _Group] = {}
        for layer, weights in layers.items():
            for name in weights:
                if name not in named:
                    continue
                param = named[name]
                whole = _local(param)
                wide = torch.float64 if whole.dtype == torch.float64 else torch.float32
                group = groups.setdefault((whole.device, wide), _Group(wide, whole.device))
                group.weights.append(_Weight(layer, param, whole.numel(), sample(whole, BLOCKS).numel()))
                self._dtypes.setdefault(layer, str(param.dtype).removeprefix("torch."))
                self._many[layer] = self._many.get(layer, 0) + whole.numel()
        self._groups = list(groups.values())
        self._norms: dict[str, float] = {}
        self._readings = 0

    def fresh(self) -> bool:
        """Whether none of the weights has a gradient, or (where it can be looked at) the smallest has one of zeros."""
        followed = [w for group in self._groups for w in group.weights]
        if not followed:
            return False
        if all(w.param.grad is None for w in followed):
            return True
        graded = [w for w in followed if w.param.grad is not None and w.param.grad.layout is torch.strided]
        least = min(graded, key=lambda w: w.many, default=None)
        if least is None or least.param.device.type != "cpu":
            return False
        with torch.no_grad():
            return not bool(_local(least.param.grad).any())  # type: ignore[arg-type]

    @torch.no_grad()
    def keep(self) -> None:
        """Copies the weights (of large ones a sample), for `moved` to compare with."""
        self._norms = self._weight_norms(keep=True)

    @torch.no_grad()
    def norms(self, factor: float = 1.0) -> dict[str, WeightStats]:
        """Norms of gradients as they are now, over `factor`, and of weights as they were when last taken down."""
        weight_norms = self._norms or self._weight_norms(keep=False)
        squares: dict[str, float] = {}
        finite: dict[str, bool] = {}
        zeros: dict[str, int] = {}
        seen: dict[str, int] = {}
        for group in self._groups:
            found = [(w, k, g) for k, w in enumerate(group.weights) if (g := _grad(w.param)) is not None]
            if not found:
                continue
            whole = [g for _, _, g in found]
            row, parts = group.row(1)
            if len(found) < len(group.weights):
                row.zero_()  # a weight without a gradient counts, in `moved`, as one whose gradient is zero
            group.graded = True
            _torch._foreach_copy_([parts[k] for _, k, _ in found], [sample(g, BLOCKS) for g in whole])
            sizes = _torch._foreach_norm(whole, 2, group.wide)
            row.eq_(0)  # from here on: 1 where the gradient is zero
            counts = _counted(row, [parts[k] for _, k, _ in found])
            group.zeros = bool(counts)
            numbers = torch.stack([t.to(group.wide) for t in (*sizes, *counts)]).tolist()
            zero_counts = numbers[len(found) :] or [0.0] * len(found)
            for (w, _, g), size, zero in zip(found, numbers, zero_counts, strict=False):
                if not SAFE[0] < size < SAFE[1]:
                    size, fine = norm_of([g])
                    finite[w.layer] = finite.get(w.layer, True) and fine
                squares[w.layer] = math.hypot(squares.get(w.layer, 0.0), size)
                zeros[w.layer] = zeros.get(w.layer, 0) + round(zero**2)
                seen[w.layer] = seen.get(w.layer, 0) + w.sampled
        return {
            layer: WeightStats(
                weight_norm=weight_norms[layer],
                weight_grad_norm=squares[layer] / factor if layer in squares else None,
                update_norm=None,
                stalled=None,
                zero_grad=zeros[layer] / max(1, seen[layer]) if layer in seen else None,
                weights=self._many[layer],
                dtype=self._dtypes[layer],
                finite=finite.get(layer, True),
            )
            for layer in self._dtypes
        }

    @torch.no_grad()
    def moved(self, stats: dict[str, WeightStats]) -> None:
        """Fills in what the step since `keep` changed; the gradients must still be those that `norms` read."""
        moves: dict[str, float] = dict.fromkeys(self._dtypes, 0.0)
        still: dict[str, int] = dict.fromkeys(self._dtypes, 0)
        looked: dict[str, int] = dict.fromkeys(self._dtypes, 0)
        for group in self._groups:
            if not group.kept:
                continue
            row, parts = group.row(0)
            _torch._foreach_sub_(parts, [sample(_local(w.param), BLOCKS) for w in group.weights])
            sizes = torch.stack(_torch._foreach_norm(parts)).tolist()
            for k, w in enumerate(group.weights):
                size = sizes[k] if SAFE[0] < sizes[k] < SAFE[1] else norm_of([parts[k]])[0]
                # The sum of squares over the sample stands for that over all elements, so the norm grows by the root.
                moves[w.layer] = math.hypot(moves[w.layer], size * (w.many / max(1, w.sampled)) ** 0.5)
                looked[w.layer] += w.sampled
            if group.graded:
                row.eq_(0)  # from here on: 1 where the weight has not moved
                unmoved = _counted(row, parts)
                if unmoved and group.zeros:
                    row.mul_(group.row(1)[0])
                    unmoved += _torch._foreach_norm(parts)  # those that stayed and had no gradient
                counts = torch.stack(unmoved).tolist() if unmoved else []
                for k, w in enumerate(group.weights):
                    ungraded = counts[len(parts) + k] if len(counts) > len(parts) else 0.0
                    still[w.layer] += round(counts[k] ** 2) - round(ungraded**2) if counts else 0
            group.kept = group.graded = False
        for layer, entry in stats.items():
            if not looked[layer]:
                continue
            entry.update_norm = moves[layer]
            entry.stalled = still[layer] / looked[layer] if entry.weight_grad_norm is not None else None
        self._norms = {}

    def _weight_norms(self, *, keep: bool) -> dict[str, float]:
        norms: dict[str, float] = dict.fromkeys(self._dtypes, 0.0)
        renew = self._readings % RENEWED == 0
        self._readings += 1
        for group in self._groups:
            whole = [_local(w.param) for w in group.weights]
            _, parts = group.row(0)
            _torch._foreach_copy_(parts, [sample(t, BLOCKS) for t in whole])
            numbers = torch.stack(_torch._foreach_norm(parts)).tolist()
            for w, t, part, number in zip(group.weights, whole, parts, numbers, strict=True):
                size = number if SAFE[0] < number < SAFE[1] else norm_of([part])[0]
                if w.many > w.sampled:
                    if renew or not size > 0:
                        exact = norm_of([t])[0]
                        w.ratio = exact / size if size > 0 and math.isfinite(exact / size) else 1.0
                        size = exact
                    else:
                        size *= w.ratio
                norms[w.layer] = math.hypot(norms[w.layer], size)
            group.kept = keep
        return norms


def _counted(row: Tensor, parts: list[Tensor]) -> list[Tensor]:
    """For each part of a row of zeros and ones, the root of the number of ones; an empty list where the row has none.

    Whether it has none is asked on a CPU only, as reading the answer would stop another device.
    """
    if row.device.type == "cpu" and not float(row.sum()):
        return []
    return list(_torch._foreach_norm(parts))


def _local(t: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is distributed."""
    t = t.detach()
    return t.to_local() if hasattr(t, "to_local") else t  # pyright: ignore[reportAttributeAccessIssue]


def _grad(p: Tensor) -> Tensor | None:
    """The gradient of a weight, in the weight's own memory layout, so that `sample` takes the same elements of both."""
    grad = p.grad
    if grad is None:
        return None
    grad = _local(grad)
    grad = grad.to_dense() if grad.is_sparse else grad
    whole = _local(p)
    return grad if grad.stride() == whole.stride() else torch.empty_like(whole, dtype=grad.dtype).copy_(grad)
