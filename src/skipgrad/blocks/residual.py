"""Residual blocks of two 3×3 convolutions, after or before activation, and the plain block without the add."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.norms import NORMS, norm2d
from skipgrad.blocks.registry import HALF, IMAGE, enter
from skipgrad.blocks.shortcut import make_shortcut


class PlainBlock(nn.Module):
    """Two convolutions with norm and ReLU, and no shortcut: (N, in, H, W) → (N, out, H/stride, W/stride).

    Args:
        in_channels: channels of x.
        out_channels: channels of what it returns.
        stride: stride of the first convolution.
        norm: see :func:`skipgrad.blocks.norms.norm2d`; without a norm the convolutions have biases.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, *, norm: str = "batch") -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)
        self.norm1 = norm2d(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=bias)
        self.norm2 = norm2d(norm, out_channels)

    def branch(self, x: Tensor) -> Tensor:
        """F(x): what the weights make of x, before the last ReLU."""
        return self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x))


class BasicBlock(PlainBlock):
    """relu(F(x) + shortcut(x)), the basic block of He et al., "Deep residual learning" (arXiv 1512.03385).

    With ``shortcut="pad"`` its parameters, and their draws from the generator, are those of `PlainBlock`.

    Args:
        in_channels: channels of x.
        out_channels: channels of what it returns.
        stride: stride of the first convolution.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
        shortcut: ``"identity"``, ``"pad"`` (option A) or ``"projection"`` (option B).
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, norm: str = "batch", shortcut: str = "pad"
    ) -> None:
        super().__init__(in_channels, out_channels, stride, norm=norm)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.branch(x) + self.shortcut(x))


class PreActBlock(nn.Module):
    """F(x) + shortcut(x) with norm and ReLU before each convolution (He et al. 2016, arXiv 1603.05027).

    Nothing but adds lies on the way from the first block to the last, so the gradient passes unscaled. Where
    the shape changes the shortcut starts from the activated input, as in the paper.

    Args:
        in_channels: channels of x.
        out_channels: channels of what it returns.
        stride: stride of the first convolution.
        norm: see :func:`skipgrad.blocks.norms.norm2d`.
        shortcut: ``"identity"``, ``"pad"`` or ``"projection"``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, norm: str = "batch", shortcut: str = "pad"
    ) -> None:
        super().__init__()
        bias = norm == "none"
        self.norm1 = norm2d(norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=bias)
        self.norm2 = norm2d(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=bias)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride, "none")
        self.reshapes = in_channels != out_channels or stride != 1

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        branch = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return branch + self.shortcut(active if self.reshapes else x)


for _norm in NORMS:
    enter(f"plain-{_norm}", partial(PlainBlock, 4, 8, 2, norm=_norm), [IMAGE], [HALF])
    enter(f"basic-{_norm}", partial(BasicBlock, 4, 8, 2, norm=_norm), [IMAGE], [HALF])
    enter(f"preact-{_norm}", partial(PreActBlock, 4, 8, 2, norm=_norm), [IMAGE], [HALF])
enter("basic-identity", partial(BasicBlock, 4, 4, shortcut="identity"), [IMAGE], [IMAGE])
enter("basic-projection", partial(BasicBlock, 4, 8, 2, shortcut="projection"), [IMAGE], [HALF])
enter("preact-projection", partial(PreActBlock, 4, 8, 2, shortcut="projection"), [IMAGE], [HALF])
