"""The residual connection where the shape changes: pad and slice (option A), or a projection with weights (option
B)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added
from skipgrad.blocks.forms.registry import FORMS, IMAGE, FormEntry, Seen, convs
from skipgrad.blocks.shortcut import make_shortcut
from skipgrad.core import BadInput, nearest


class _PadLast(nn.Module):
    """Option A for features: zeros behind them."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, self.more))


class Projection(nn.Module):
    """act(W x + F(x)) where F changes channels or resolution: (N, in, H, W) → (N, out, H/stride, W/stride), or
    features.

    He et al. (arXiv 1512.03385), section 3.3: option A takes every ``stride``-th pixel and fills new channels with
    zeros, option B is a 1×1 convolution (a linear map for features).

    Args:
        branch: F.
        in_channels: channels of x.
        out_channels: channels of what F returns.
        stride: of the branch; 1 for features.
        option: ``"A"`` or ``"B"``.
        norm: behind the 1×1 convolution: see :func:`skipgrad.blocks.norms.norm2d`.
        layout: ``"NCHW"``, or ``"features"`` for (…, channels).
        activation: what the sum goes through, or None.

    Raises:
        BadInput: another option or layout, option A with fewer channels out than in; in the forward, shapes that do
            not add.
    """

    def __init__(
        self,
        branch: nn.Module,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        option: Literal["A", "B"] = "B",
        norm: str = "none",
        layout: Literal["NCHW", "features"] = "NCHW",
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        kinds = {"A": "pad", "B": "projection"}
        if option not in kinds or layout not in ("NCHW", "features"):
            raise BadInput(
                "building a projection shortcut",
                received=f"option={option!r}, layout={layout!r}",
                todo=nearest(str(option), ["A", "B"]) if option not in kinds else nearest(layout, ["NCHW", "features"]),
            )
        self.branch, self.activation = branch, activation
        if layout == "NCHW":
            self.shortcut = make_shortcut(kinds[option], in_channels, out_channels, stride, norm)
        else:
            self.shortcut = _feature_shortcut(option, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = added(self, self.shortcut(x), self.branch(x))
        return y if self.activation is None else self.activation(y)


def _feature_shortcut(option: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride != 1 or (option == "A" and out_channels < in_channels):
        raise BadInput(
            "building a shortcut for features",
            received=f"{in_channels} features to {out_channels}, stride {stride}, option {option}",
            todo="use stride 1, and option='B' where the features shrink",
        )
    return _PadLast(out_channels - in_channels) if option == "A" else nn.Linear(in_channels, out_channels)


def _entry(option: Literal["A", "B"]) -> FormEntry:
    b = option == "B"
    return FormEntry(
        title=f"Projection, option {option}",
        build=Projection,
        example=lambda: Projection(convs(4, 8, 2), 4, 8, 2, option=option),
        shape=IMAGE,
        formula="y = W x + F(x)" if b else "y = pad(x[::2]) + F(x)",
        paper='He et al., "Deep residual learning for image recognition", 2015 (arXiv 1512.03385), section 3.3',
        shapes="(N, in, H, W) → (N, out, H/stride, W/stride); (…, in) → (…, out) with `layout='features'`",
        start="W x + F(x)" if b else "pad(x[::2]) + F(x)",
        initially=lambda m, x: m.shortcut(x) + m.branch(x),  # type: ignore[operator]
        finds=(Seen("add", "projection" if b else "slice", 2),),
        when="Where channels or resolution change. "
        + ("The usual one." if b else "No weights, as in ResNet on CIFAR."),
        cost="a 1×1 convolution" if b else "a slice and a pad; no weights",
    )


FORMS.register("projection", _entry("B"))
FORMS.register("projection-a", _entry("A"))
