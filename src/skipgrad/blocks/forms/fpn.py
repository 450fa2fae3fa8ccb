"""The feature pyramid: lateral 1×1 convolutions are added to the coarser level, upsampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.forms.registry import FORMS, IMAGE, FormEntry, Seen
from skipgrad.core import BadInput


class FPN(nn.Module):
    """p_k = S_k(q_k), q_k = L_k c_k + up(q_{k+1}), L_k a 1×1 and S_k a 3×3 convolution: features of a backbone →
    pyramid.

    Lin et al., "Feature pyramid networks for object detection" (arXiv 1612.03144). Takes the features finest first,
    (N, in_k, H_k, W_k), and returns as many of (N, out, H_k, W_k).

    Args:
        in_channels: channels of each level, finest first.
        out_channels: channels of what it returns.

    Raises:
        BadInput: no level; in the forward, another number of features, or channels, than it was built for.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        if not in_channels:
            raise BadInput("building a feature pyramid", received="no levels", todo="give the channels of each level")
        self.lateral = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, 1, 1) for _ in in_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        channels = [m.in_channels for m in self.lateral]
        if [f.shape[1] for f in features] != channels:
            raise BadInput(
                "building a pyramid of features",
                received=f"features of shapes {[tuple(f.shape) for f in features]}",
                todo=f"give one for each level, finest first, with {channels} channels",
            )
        q = self.lateral[-1](features[-1])
        out = [self.smooth[-1](q)]
        for k in range(len(channels) - 2, -1, -1):
            side = self.lateral[k](features[k])
            q = side + F.interpolate(q, size=side.shape[-2:], mode="nearest")
            out.insert(0, self.smooth[k](q))
        return out


class _Example(nn.Module):
    """A backbone of two levels, its pyramid, and the finest level of that."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 4, 3, 2, 1)
        self.fpn = FPN([4, 4], 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fpn([x, torch.tanh(self.down(x))])[0]


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    low = m.fpn.lateral[1](torch.tanh(m.down(x)))  # type: ignore
    return m.fpn.smooth[0](m.fpn.lateral[0](x) + F.interpolate(low, scale_factor=2.0, mode="nearest"))  # type: ignore


FORMS.register(
    "fpn",
    FormEntry(
        title="Feature pyramid",
        build=FPN,
        example=_Example,
        shape=IMAGE,
        formula="q_k = L_k c_k + up(q_{k+1}), p_k = S_k q_k",
        paper='Lin et al., "Feature pyramid networks for object detection", 2016 (arXiv 1612.03144)',
        shapes="list of (N, C_k, H_k, W_k), finest first → list of (N, out, H_k, W_k)",
        start="S(L c + up(L′ c′))",
        initially=_initially,
        finds=(Seen("add", "projection", 2, long=True),),
        when="Detection and segmentation of things of many sizes, on a backbone that has its levels.",
        cost="a 1×1 and a 3×3 convolution a level",
        outside="torchvision FeaturePyramidNetwork",
    ),
)
