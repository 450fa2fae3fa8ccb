"""The reversible residual net of CIFAR (Gomez et al., arXiv 1707.04585)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import make_shortcut, norm2d
from skipgrad.blocks.forms import Reversible, ReversibleSequence
from skipgrad.models.nets.registry import FAMILIES, Family


class _Down(nn.Module):
    """The first block of a stage, on halves, where the shape changes: its input is kept, as it cannot be run back."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        c, out = in_channels // 2, out_channels // 2
        self.f, self.g = _branch(c, out, stride, norm), _branch(out, out, 1, norm)
        self.shortcut = make_shortcut("pad", c, out, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, 1)
        y1 = self.shortcut(x1) + self.f(x2)
        return torch.cat([y1, self.shortcut(x2) + self.g(y1)], 1)


class RevNet(nn.Module):
    """Stem, three stages of reversible blocks, pooling, head: (N, in_channels, H, W) → (N, num_classes); H, W ≥ 4.

    A block is two branches of two 3×3 convolutions on half the channels each, so that 12k + 2 layers are k blocks a
    stage. What a stage keeps for its backward does not grow with k.

    Args:
        depth: weighted layers on the longest path, 12k+2.
        width: channels of stem and first stage, an even number; the stages have w, 2w and 3.5w, as RevNet-38 has 32,
            64, 112.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
        in_channels: channels of the images.
        num_classes: outputs of the head.
    """

    def __init__(
        self, depth: int, width: int = 32, norm: str = "batch", in_channels: int = 1, num_classes: int = 10
    ) -> None:
        super().__init__()
        widths = [width, 2 * width, 2 * (7 * width // 4)]
        self.conv = nn.Conv2d(in_channels, width, 3, 1, 1, bias=norm == "none")
        self.stages = nn.Sequential()
        channels = width
        for k, out in enumerate(widths):
            blocks = [Reversible(_branch(out // 2, out // 2, 1, norm), _branch(out // 2, out // 2, 1, norm))
                      for _ in range((depth - 2) // 12 - (k > 0))]  # fmt: skip
            if k:
                self.stages.append(_Down(channels, out, 2, norm))
            if blocks:
                self.stages.append(ReversibleSequence(blocks))
            channels = out
        self.norm = norm2d(norm, channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.stages(self.conv(x)))).mean(dim=(2, 3)))


def _branch(in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Sequential:
    bias = norm == "none"
    return nn.Sequential(
        norm2d(norm, in_channels),
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias),
        norm2d(norm, out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=bias),
    )


FAMILIES.register("revnet", Family(RevNet, "image", "digits", 14, 12, "12k+2", (38, 110)), rank=14)
