"""A small feature pyramid with a head for masks on its finest level (Lin et al., arXiv 1612.03144)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import BasicBlock, norm2d
from skipgrad.blocks.forms import FPN
from skipgrad.models.nets.registry import FAMILIES, Family


class PyramidNet(nn.Module):
    """A residual backbone of three levels, its pyramid, head: (N, in_channels, H, W) → (N, num_classes, H, W).

    The levels of the pyramid are upsampled to the finest and added before the head, as in panoptic pyramids (Kirillov
    et al., arXiv 1901.02446).

    Args:
        in_channels: channels of the images.
        num_classes: classes of the mask.
        width: channels of the first level and of the pyramid; each level down doubles them.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, width: int = 8, norm: str = "batch") -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, 1, 1, bias=norm == "none")
        self.norm = norm2d(norm, width)
        widths = [width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            BasicBlock(a, b, stride, norm=norm, shortcut="projection")
            for a, b, stride in ((width, width, 1), (width, 2 * width, 2), (2 * width, 4 * width, 2))
        )
        self.pyramid = FPN(widths, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        fine, *coarse = self.pyramid(levels)
        for level in coarse:
            fine = fine + F.interpolate(level, size=fine.shape[-2:], mode="nearest")
        return self.head(F.relu(fine))


FAMILIES.register("fpn", Family(PyramidNet, "image", "shapes"), rank=13)
