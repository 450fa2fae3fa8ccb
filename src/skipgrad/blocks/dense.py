"""The dense layer: its output is appended to its input."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.norms import NORMS, norm2d
from skipgrad.blocks.registry import IMAGE, enter


class DenseLayer(nn.Module):
    """cat(x, F(x)): (N, C, H, W) → (N, C + growth, H, W), with norm and ReLU before the convolution.

    Huang et al., "Densely connected convolutional networks" (arXiv 1608.06993).

    Args:
        in_channels: channels of x.
        growth: channels it adds.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
    """

    def __init__(self, in_channels: int, growth: int, *, norm: str = "batch") -> None:
        super().__init__()
        self.norm = norm2d(norm, in_channels)
        self.conv = nn.Conv2d(in_channels, growth, 3, 1, 1, bias=norm == "none")

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], dim=1)


for _norm in NORMS:
    enter(f"dense-{_norm}", partial(DenseLayer, 4, 3, norm=_norm), [IMAGE], [(2, 7, 8, 8)])
