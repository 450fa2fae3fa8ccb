"""The bottleneck residual block: 1×1 down, 3×3, 1×1 up."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.norms import NORMS, norm2d
from skipgrad.blocks.registry import HALF, IMAGE, enter
from skipgrad.blocks.shortcut import make_shortcut


class BottleneckBlock(nn.Module):
    """relu(F(x) + shortcut(x)) with three convolutions (He et al. 2015, arXiv 1512.03385, fig. 5 right).

    Args:
        in_channels: channels of x, (N, in_channels, H, W).
        out_channels: channels of what it returns, (N, out_channels, H/stride, W/stride).
        stride: stride of the 3×3 convolution.
        reduce: how many times narrower the 3×3 convolution is than the output.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
        shortcut: ``"identity"``, ``"pad"`` or ``"projection"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        reduce: int = 4,
        norm: str = "batch",
        shortcut: str = "projection",
    ) -> None:
        super().__init__()
        inner, bias = max(1, out_channels // reduce), norm == "none"
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=bias)
        self.norm1 = norm2d(norm, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=bias)
        self.norm2 = norm2d(norm, inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=bias)
        self.norm3 = norm2d(norm, out_channels)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        branch = F.relu(self.norm1(self.conv1(x)))
        branch = F.relu(self.norm2(self.conv2(branch)))
        branch = self.norm3(self.conv3(branch))
        return F.relu(branch + self.shortcut(x))


class PreActBottleneckBlock(nn.Module):
    """F(x) + shortcut(x) with norm and ReLU before each of three convolutions (He et al. 2016, arXiv 1603.05027).

    Where the shape changes the shortcut starts from the activated input, as in the paper.

    Args:
        in_channels: channels of x, (N, in_channels, H, W).
        out_channels: channels of what it returns, (N, out_channels, H/stride, W/stride).
        stride: stride of the 3×3 convolution.
        reduce: how many times narrower the 3×3 convolution is than the output.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
        shortcut: ``"identity"``, ``"pad"`` or ``"projection"``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        reduce: int = 4,
        norm: str = "batch",
        shortcut: str = "projection",
    ) -> None:
        super().__init__()
        inner, bias = max(1, out_channels // reduce), norm == "none"
        self.norm1 = norm2d(norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=bias)
        self.norm2 = norm2d(norm, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=bias)
        self.norm3 = norm2d(norm, inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=bias)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, "none")
        self.reshapes = in_channels != out_channels or stride != 1

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        branch = self.conv2(F.relu(self.norm2(self.conv1(active))))
        branch = self.conv3(F.relu(self.norm3(branch)))
        return branch + self.shortcut(active if self.reshapes else x)


for _norm in NORMS:
    enter(f"preact-bottleneck-{_norm}", partial(PreActBottleneckBlock, 4, 8, 2, norm=_norm), [IMAGE], [HALF])
    enter(f"bottleneck-{_norm}", partial(BottleneckBlock, 4, 8, 2, norm=_norm), [IMAGE], [HALF])
enter("bottleneck-pad", partial(BottleneckBlock, 4, 8, 2, shortcut="pad"), [IMAGE], [HALF])
