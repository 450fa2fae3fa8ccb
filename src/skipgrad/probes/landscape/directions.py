"""Random directions in the space of weights, as long filter by filter as the weights themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Direction = dict[str, Tensor]


def filter_normalised(model: nn.Module, seed: int, *, ignore: str = "biasbn") -> Direction:
    """A random direction d with ‖d_i‖ = ‖w_i‖ for every filter i, a filter being a row of a weight.

    Li et al. 2018, Visualizing the loss landscape of neural nets (arXiv:1712.09913), section 4.

    Args:
        model: the net.
        seed: of the direction.
        ignore: ``"biasbn"``: zero along biases and norms' weights, as the paper draws its pictures; ``"none"``: there
            too, each as one filter.
    """
    generator = torch.Generator().manual_seed(seed)
    direction: Direction = {}
    for name, weight in model.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        if weight.dim() <= 1:
            scale = weight.detach().norm() / (drawn.norm() + 1e-10)
            direction[name] = torch.zeros_like(drawn) if ignore == "biasbn" else drawn * scale
        else:
            rows = drawn.flatten(1)
            scale = weight.detach().flatten(1).norm(dim=1, keepdim=True) / (rows.norm(dim=1, keepdim=True) + 1e-10)
            direction[name] = (rows * scale).view_as(drawn)
    return direction


def moved(weights: dict[str, Tensor], steps: tuple[tuple[float, Direction], ...]) -> dict[str, Tensor]:
    """The weights some way along directions."""
    out = dict(weights)
    for far, direction in steps:
        for name, d in direction.items():
            out[name] = out[name] + far * d
    return out
