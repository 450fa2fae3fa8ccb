"""The long skip: what went into a part of the net is joined to what comes out of it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, concatenated
from skipgrad.blocks.forms.registry import FORMS, IMAGE, FormEntry, Seen
from skipgrad.core import BadInput, nearest

MERGES = ("concat", "add")


class LongSkip(nn.Module):
    """cat(x, inner(x)) or x + inner(x): (N, C, …) → (N, C + C', …), or the same with ``merge="add"``.

    Ronneberger, Fischer and Brox, "U-Net" (arXiv 1505.04597) concatenate; Linknet and V-Net add. The inner part usually
    leaves the resolution and comes back to it, and holds the next long skip.

    Args:
        inner: what the skip goes around.
        merge: ``"concat"`` or ``"add"``.
        dim: the dimension of the channels, for a concatenation.

    Raises:
        BadInput: another merge; in the forward, shapes that do not fit.
    """

    def __init__(self, inner: nn.Module, merge: Literal["concat", "add"] = "concat", dim: int = 1) -> None:
        super().__init__()
        if merge not in MERGES:
            raise BadInput("building a long skip", received=f"merge={merge!r}", todo=nearest(str(merge), MERGES))
        self.inner, self.merge, self.dim = inner, merge, dim

    def forward(self, x: Tensor) -> Tensor:
        if self.merge == "add":
            return added(self, x, self.inner(x))
        return concatenated(self, x, self.inner(x), self.dim)


def down_and_up(channels: int = 4) -> nn.Sequential:
    """An inner part for examples: a convolution at half the resolution, between pooling and upsampling."""
    conv = nn.Conv2d(channels, channels, 3, 1, 1)
    return nn.Sequential(nn.AvgPool2d(2), conv, nn.Tanh(), nn.Upsample(scale_factor=2.0, mode="nearest"))


FORMS.register(
    "long-concat",
    FormEntry(
        title="Long skip by concatenation",
        build=LongSkip,
        example=lambda: LongSkip(down_and_up()),
        shape=IMAGE,
        formula="y = cat(x, inner(x))",
        paper='Ronneberger, Fischer and Brox, "U-Net", 2015 (arXiv 1505.04597)',
        shapes="(N, C, …) → (N, C + C′, …)",
        start="cat(x, inner(x))",
        initially=lambda m, x: torch.cat([x, m.inner(x)], 1),  # type: ignore[operator]
        finds=(Seen("concat", "identity", 1, long=True),),
        when="Encoder–decoders whose output needs fine detail. Nest them: `inner` holds the next level.",
        cost="the memory of x until the decoder has read it, and wider convolutions behind",
        outside="monai SkipConnection (mode cat)",
    ),
)
