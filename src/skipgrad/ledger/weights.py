"""What the optimizer's step did to the weights of each layer: read before it, compared after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


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


def norm(tensors: list[Tensor]) -> tuple[float, bool]:
    """L2 norm over all tensors, and whether it is finite. Does not underflow: scaled by the largest size first."""
    total, largest = 0.0, 0.0
    parts = []
    for t in tensors:
        if t.numel() == 0:
            continue
        wide = t.detach() if t.dtype == torch.float64 else t.detach().float()
        low, high = torch.aminmax(wide)
        size = float(torch.maximum(high, -low))
        if size != size or size == float("inf"):
            return size, False
        if size > 0:
            parts.append((size, float(torch.linalg.vector_norm(wide / size))))
            largest = max(largest, size)
    for size, unit in parts:
        total += (size / largest * unit) ** 2
    return largest * total**0.5, True


class WeightWatch:
    """Follows the weights of the layers through optimizer steps.

    Args:
        model: owns them.
        layers: names of the weights of each layer.
    """

    def __init__(self, model: nn.Module, layers: dict[str, tuple[str, ...]]) -> None:
        named = dict(model.named_parameters(remove_duplicate=False))
        self._layers = {layer: [named[w] for w in weights if w in named] for layer, weights in layers.items()}
        self._before: dict[str, list[Tensor]] = {}

    def keep(self) -> None:
        """Copies the weights, for `moved` to compare with."""
        self._before = {layer: [p.detach().clone() for p in params] for layer, params in self._layers.items() if params}

    def norms(self) -> dict[str, WeightStats]:
        """Norms of weights and gradients as they are now."""
        out: dict[str, WeightStats] = {}
        for layer, params in self._layers.items():
            if not params:
                continue
            dense = [g for g in map(_grad, params) if g is not None]
            grad_norm, finite = norm(dense) if dense else (None, True)
            many = sum(p.numel() for p in params)
            out[layer] = WeightStats(
                weight_norm=norm(self._before.get(layer, list(params)))[0],
                weight_grad_norm=grad_norm,
                update_norm=None,
                stalled=None,
                zero_grad=sum(int((g == 0).sum()) for g in dense) / many if dense else None,
                weights=many,
                dtype=str(params[0].dtype).removeprefix("torch."),
                finite=finite,
            )
        return out

    def moved(self, stats: dict[str, WeightStats]) -> None:
        """Fills in what the step since `keep` changed; the gradients must still be those of the step."""
        for layer, before in self._before.items():
            params, entry = self._layers[layer], stats[layer]
            entry.update_norm = norm([p.detach() - b for p, b in zip(params, before, strict=True)])[0]
            if entry.weight_grad_norm is None:
                continue
            still = 0
            for p, b in zip(params, before, strict=True):
                grad = _grad(p)
                if grad is not None:
                    still += int(((p.detach() == b) & (grad != 0)).sum())
            entry.stalled = still / entry.weights
        self._before.clear()


def _grad(p: Tensor) -> Tensor | None:
    grad = p.grad
    return grad.to_dense() if grad is not None and grad.is_sparse else grad
