"""The cheap path of a residual block: identity, pad-and-slice (option A) or a projection (option B)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.norms import norm2d
from skipgrad.core import BadInput, nearest

SHORTCUTS = ("identity", "pad", "projection")


class PadSlice(nn.Module):
    """Option A of He et al. (2015): every ``stride``-th pixel, new channels filled with zeros; no weights.

    Args:
        in_channels: channels of x.
        out_channels: channels of the branch, at least as many.
        stride: stride of the branch.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise BadInput(
                "building a pad-and-slice shortcut",
                received=f"{in_channels} channels to {out_channels}",
                todo="use shortcut='projection' where the channels shrink",
            )
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.before or self.after:
            x = F.pad(x, (0, 0, 0, 0, self.before, self.after))
        return x


def make_shortcut(kind: str, in_channels: int, out_channels: int, stride: int, norm: str) -> nn.Module:
    """The shortcut from (N, in_channels, H, W) to (N, out_channels, H/stride, W/stride).

    Where the shapes agree it is the identity, whatever ``kind`` says (as in He et al., options A and B).

    Raises:
        BadInput: an unknown kind, or ``"identity"`` between shapes that differ.
    """
    if kind not in SHORTCUTS:
        raise BadInput("choosing a shortcut", received=f"shortcut={kind!r}", todo=nearest(str(kind), SHORTCUTS))
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    if kind == "identity":
        raise BadInput(
            "building an identity shortcut",
            received=f"{in_channels} channels to {out_channels} at stride {stride}",
            todo="use shortcut='pad' or 'projection' where the shape changes",
        )
    if kind == "pad":
        return PadSlice(in_channels, out_channels, stride)
    conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=norm == "none")
    return nn.Sequential(conv, norm2d(norm, out_channels))
