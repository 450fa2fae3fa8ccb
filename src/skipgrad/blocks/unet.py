"""The two halves of a U-Net level: down (encode, then halve) and up (double, join the skip, decode)."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.norms import norm2d
from skipgrad.blocks.registry import HALF, IMAGE, enter
from skipgrad.core import BadInput


class DoubleConv(nn.Module):
    """Two 3×3 convolutions, each with norm and ReLU: (N, in, H, W) → (N, out, H, W).

    Args:
        in_channels: channels of x.
        out_channels: channels of what it returns.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str = "batch") -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=bias)
        self.norm1 = norm2d(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=bias)
        self.norm2 = norm2d(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class DownBlock(nn.Module):
    """Encodes and halves: x → (features for the skip (N, out, H, W), pooled (N, out, H/2, W/2)).

    Ronneberger, Fischer and Brox, "U-Net" (arXiv 1505.04597).

    Args:
        in_channels: channels of x.
        out_channels: channels of both results.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: str = "batch") -> None:
        super().__init__()
        self.convs = DoubleConv(in_channels, out_channels, norm=norm)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convs(x)
        return features, F.max_pool2d(features, 2)


class UpBlock(nn.Module):
    """Doubles x, joins the encoder's features by concatenation and decodes: → (N, out, 2H, 2W).

    Called without features it fills their place with x's own first channels, so that a U-Net with skips and one
    without have exactly the same weights and differ in nothing but where those channels come from.

    Args:
        in_channels: channels of x, from below.
        skip_channels: channels of the encoder's features, at most ``in_channels``.
        out_channels: channels of what it returns.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, *, norm: str = "batch") -> None:
        super().__init__()
        if skip_channels > in_channels:
            raise BadInput(
                "building an up block",
                received=f"skip_channels={skip_channels} > in_channels={in_channels}",
                todo="give the skip at most as many channels as come from below",
            )
        self.skip_channels = skip_channels
        self.convs = DoubleConv(in_channels + skip_channels, out_channels, norm=norm)

    def forward(self, x: Tensor, features: Tensor | None = None) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.convs(torch.cat([x, x[:, : self.skip_channels] if features is None else features], dim=1))


enter("double-conv", partial(DoubleConv, 4, 8), [IMAGE], [(2, 8, 8, 8)])
enter("unet-down", partial(DownBlock, 4, 8), [IMAGE], [(2, 8, 8, 8), (2, 8, 4, 4)])
enter("unet-up", partial(UpBlock, 8, 4, 4), [HALF, IMAGE], [IMAGE])
enter("unet-up-without", partial(UpBlock, 8, 4, 4), [HALF], [IMAGE])
