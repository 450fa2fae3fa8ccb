"""A small U-Net whose long skips can be left out (Ronneberger et al., arXiv 1505.04597)."""

from __future__ import annotations

from torch import Tensor, nn

from skipgrad.blocks import DoubleConv, DownBlock, UpBlock
from skipgrad.core import BadInput, nearest
from skipgrad.models.nets.registry import FAMILIES, Family

SKIPS = ("concat", "scaled", "none")


class UNet(nn.Module):
    """Three levels down and up: (N, in_channels, H, W) → (N, num_classes, H, W), H and W multiples of 8.

    Args:
        in_channels: channels of the images.
        num_classes: classes of the mask.
        width: channels of the first level; each level down doubles them.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
        skip: ``"concat"``; ``"scaled"`` for the same with ScaleLong's constants, 1, κ, κ² from the outermost; or
            ``"none"`` for the same weights without long skips.
        kappa: κ.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        width: int = 8,
        norm: str = "batch",
        skip: str = "concat",
        kappa: float = 0.7,
    ) -> None:
        super().__init__()
        if skip not in SKIPS:
            raise BadInput("building a U-Net", received=f"skip={skip!r}", todo=nearest(str(skip), SKIPS))
        self.skip, self.kappa = skip, kappa
        self.down1 = DownBlock(in_channels, width, norm=norm)
        self.down2 = DownBlock(width, 2 * width, norm=norm)
        self.down3 = DownBlock(2 * width, 4 * width, norm=norm)
        self.middle = DoubleConv(4 * width, 8 * width, norm=norm)
        self.up3 = UpBlock(8 * width, 4 * width, 4 * width, norm=norm)
        self.up2 = UpBlock(4 * width, 2 * width, 2 * width, norm=norm)
        self.up1 = UpBlock(2 * width, width, width, norm=norm)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine, x = self.down1(x)
        middle, x = self.down2(x)
        coarse, x = self.down3(x)
        x = self.middle(x)
        if self.skip == "none":
            return self.head(self.up1(self.up2(self.up3(x))))
        if self.skip == "scaled":
            middle, coarse = self.kappa * middle, self.kappa**2 * coarse
        return self.head(self.up1(self.up2(self.up3(x, coarse), middle), fine))


FAMILIES.register("unet", Family(UNet, "image", "shapes"), rank=6)
