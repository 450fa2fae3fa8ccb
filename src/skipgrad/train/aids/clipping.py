"""Adaptive gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.core.errors import BadInput

EPS = 1e-3  # a unit whose weights are smaller is clipped as if they were this large: zeros must be able to grow


@torch.no_grad()
def clip_adaptively(parameters: Iterable[nn.Parameter], clip_factor: float = 0.01, eps: float = EPS) -> int:
    """Scales each unit's gradient down to ``clip_factor`` times the norm of its weights (AGC).

    A unit is a row of a matrix, a filter of a convolution, an entry of a vector as a whole:
    g ← g · min(1, clip_factor · max(‖w‖, eps) / ‖g‖).

    Args:
        parameters: weights with gradients; the head is usually left out.
        clip_factor: largest ‖g‖ / ‖w‖; .01 for large batches.
        eps: least ‖w‖.

    Returns:
        How many units were scaled down.

    Raises:
        BadInput: a factor that is not above zero.

    Paper: Brock et al., High-performance large-scale image recognition without normalization, arXiv 2102.06171.
    """
    if not clip_factor > 0:
        raise BadInput("clipping", where="clip_factor", received=repr(clip_factor), todo="give a number such as 0.01")
    clipped = 0
    for p in parameters:
        if p.grad is None:
            continue
        size, grad = _units(p.detach()).clamp_min(eps), _units(p.grad)
        most = clip_factor * size
        over = grad > most
        p.grad.mul_(torch.where(over, most / grad.clamp_min(torch.finfo(grad.dtype).tiny), torch.ones_like(grad)))
        clipped += int(over.sum())
    return clipped


def _units(tensor: Tensor) -> Tensor:
    """Norms that broadcast against the tensor."""
    if tensor.dim() <= 1:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.dim())), keepdim=True)
