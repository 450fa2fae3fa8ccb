"""The highway layer: a learned gate mixes x with what the weights make of it."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.registry import enter


class HighwayLayer(nn.Module):
    """g·F(x) + (1 − g)·x with g = σ(Wx + b): (N, width) → (N, width).

    Srivastava, Greff and Schmidhuber, "Highway networks" (arXiv 1505.00387).

    Args:
        width: features.
        gate_bias: where the gate's bias starts; negative, so that the layer starts by carrying x along.
    """

    def __init__(self, width: int, *, gate_bias: float = -2.0) -> None:
        super().__init__()
        self.transform = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return gate * F.relu(self.transform(x)) + (1 - gate) * x


enter("highway", partial(HighwayLayer, 6), [(2, 6)], [(2, 6)])
