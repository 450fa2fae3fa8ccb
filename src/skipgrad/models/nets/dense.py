"""A small DenseNet: three blocks of dense layers (Huang et al., arXiv 1608.06993)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import DenseLayer, norm2d
from skipgrad.models.nets.registry import FAMILIES, Family


class DenseNet(nn.Module):
    """(N, in_channels, H, W) → (N, num_classes), H and W at least 4.

    Args:
        depth: weighted layers, 3k+4: k dense layers a block, two transitions, stem and head.
        growth: channels each dense layer adds.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
        in_channels: channels of the images.
        num_classes: outputs of the head.
    """

    def __init__(
        self, depth: int, growth: int = 4, norm: str = "batch", in_channels: int = 1, num_classes: int = 10
    ) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=norm == "none")
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for index in range(3):
            layers = []
            for _ in range((depth - 4) // 3):
                layers.append(DenseLayer(channels, growth, norm=norm))
                channels += growth
            self.blocks.append(nn.Sequential(*layers))
            if index < 2:
                self.transitions.append(nn.Conv2d(channels, channels // 2, 1))
                channels //= 2
        self.norm = norm2d(norm, channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index < 2:
                x = F.avg_pool2d(self.transitions[index](x), 2)
        return self.head(F.relu(self.norm(x)).mean(dim=(2, 3)))


FAMILIES.register("densenet", Family(DenseNet, "image", "digits", 7, 3, "3k+4", (22, 40)), rank=4)
