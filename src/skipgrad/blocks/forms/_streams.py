"""Several residual streams beside each other: how one becomes n, and n become one."""

from __future__ import annotations

import torch
from torch import Tensor

from skipgrad.core import BadInput


def check_streams(doing: str, num_residual_streams: int) -> None:
    """Raises BadInput where there would be no stream."""
    if not isinstance(num_residual_streams, int) or num_residual_streams < 1:
        raise BadInput(
            doing, received=f"num_residual_streams={num_residual_streams!r}", todo="give a whole number of at least 1"
        )


def expanded(x: Tensor, n: int) -> Tensor:
    """n copies of x as (n, *x.shape)."""
    return x.unsqueeze(0).expand(n, *x.shape)


def reduced(streams: Tensor) -> Tensor:
    """The mean of the streams: (n, …) → (…). The papers sum; a norm behind undoes the factor n."""
    return streams.mean(0)


def broadcast(weights: Tensor, y: Tensor) -> Tensor:
    """One number a stream, times y, as streams: (n,) and (…) → (n, …)."""
    return weights.view(-1, *[1] * y.dim()) * y


def mixed(matrix: Tensor, streams: Tensor) -> Tensor:
    """Row i of the matrix says what of each stream goes into stream i: (m, n) and (n, …) → (m, …)."""
    return torch.matmul(matrix, streams.flatten(1)).view(-1, *streams.shape[1:])
