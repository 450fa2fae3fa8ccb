"""A small SegNet, whose decoder unpools by the encoder's indices (Badrinarayanan et al., arXiv 1511.00561)."""

from __future__ import annotations

from torch import Tensor, nn

from skipgrad.blocks import DoubleConv
from skipgrad.blocks.forms import IndexSkip
from skipgrad.models.nets.registry import FAMILIES, Family


class SegNet(nn.Module):
    """Three levels down and up: (N, in_channels, H, W) → (N, num_classes, H, W), H and W multiples of 8.

    Args:
        in_channels: channels of the images.
        num_classes: classes of the mask.
        width: channels of the first level; each level down doubles them.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 2, width: int = 8, norm: str = "batch") -> None:
        super().__init__()
        levels = [width, 2 * width, 4 * width]
        inner: nn.Module = DoubleConv(levels[-1], levels[-1], norm=norm)
        for outer, here in ((levels[1], levels[2]), (levels[0], levels[1]), (in_channels, levels[0])):
            back = max(outer, width)
            inner = nn.Sequential(
                DoubleConv(outer, here, norm=norm), IndexSkip(inner), DoubleConv(here, back, norm=norm)
            )
        self.net = inner
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x))


FAMILIES.register("segnet", Family(SegNet, "image", "shapes"), rank=12)
