"""DenseNet-BC: dense layers with a bottleneck, transitions that halve (Huang et al., arXiv 1608.06993, section 3)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import norm2d
from skipgrad.blocks.forms import Dense
from skipgrad.models.nets.registry import FAMILIES, Family


class DenseNetBC(nn.Module):
    """Three dense blocks: (N, in_channels, H, W) → (N, num_classes), H and W at least 4.

    Args:
        depth: weighted layers, 6k+4: k layers of two convolutions a block, two transitions, stem and head.
        growth: channels each layer adds; its bottleneck has four times as many.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
        in_channels: channels of the images.
        num_classes: outputs of the head.
        memory_efficient: see `skipgrad.blocks.forms.Dense`.
    """

    def __init__(
        self,
        depth: int,
        growth: int = 12,
        norm: str = "batch",
        in_channels: int = 1,
        num_classes: int = 10,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        channels, bias = 2 * growth, norm == "none"
        self.conv = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=bias)
        self.blocks = nn.Sequential()
        for index in range(3):
            layers = []
            for _ in range((depth - 4) // 6):
                layers.append(_layer(channels, growth, norm))
                channels += growth
            self.blocks.append(Dense(layers, memory_efficient=memory_efficient))
            if index < 2:
                halve = [norm2d(norm, channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=bias)]
                self.blocks.append(nn.Sequential(*halve, nn.AvgPool2d(2)))
                channels //= 2
        self.norm = norm2d(norm, channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.blocks(self.conv(x)))).mean(dim=(2, 3)))


def _layer(channels: int, growth: int, norm: str) -> nn.Sequential:
    bias = norm == "none"
    return nn.Sequential(
        norm2d(norm, channels),
        nn.ReLU(),
        nn.Conv2d(channels, 4 * growth, 1, bias=bias),
        norm2d(norm, 4 * growth),
        nn.ReLU(),
        nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=bias),
    )


FAMILIES.register("densenetbc", Family(DenseNetBC, "image", "digits", 10, 6, "6k+4", (22, 100)), rank=11)
