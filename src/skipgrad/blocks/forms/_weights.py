"""The matrices of a branch, in the order of its modules."""

from __future__ import annotations

from torch import Tensor, nn

_MATRICES = (nn.Linear, nn.modules.conv._ConvNd)


def matrices(branch: nn.Module) -> list[tuple[nn.Module, Tensor]]:
    """(module, weight) of every linear map and convolution, and of attentions whose weights are their own."""
    found: list[tuple[nn.Module, Tensor]] = []
    for module in branch.modules():
        if isinstance(module, _MATRICES):
            found.append((module, module.weight))
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append((module, module.in_proj_weight))
    return found
