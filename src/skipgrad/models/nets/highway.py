"""A highway net of fully connected layers (Srivastava et al., arXiv 1505.00387)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import HighwayLayer
from skipgrad.models.nets.registry import FAMILIES, Family


class HighwayNet(nn.Module):
    """Flattens, maps to ``width`` features, N highway layers, head: (N, C, H, W) → (N, num_classes).

    Args:
        depth: highway layers.
        width: features.
        in_channels: channels of the images.
        image_size: height and width of the images.
        num_classes: outputs of the head.
        gate_bias: where the gates' biases start.
    """

    def __init__(
        self,
        depth: int,
        width: int = 32,
        in_channels: int = 1,
        image_size: int = 8,
        num_classes: int = 10,
        gate_bias: float = -2.0,
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(in_channels * image_size * image_size, width)
        self.layers = nn.Sequential(*[HighwayLayer(width, gate_bias=gate_bias) for _ in range(depth)])
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(F.relu(self.stem(x.flatten(1)))))


FAMILIES.register("highway", Family(HighwayNet, "image", "digits", 1, 1, "any from 1"), rank=5)
