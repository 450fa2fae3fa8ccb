"""The norm between a convolution and its activation, chosen by name."""

from __future__ import annotations

from torch import nn

from skipgrad.core import BadInput, nearest

NORMS = ("batch", "group", "layer", "none")


def norm2d(norm: str, channels: int) -> nn.Module:
    """A norm over (N, channels, H, W).

    Args:
        norm: ``"batch"``, ``"group"`` (up to 8 groups), ``"layer"`` (one group) or ``"none"`` (identity).
        channels: channels of what it normalises.

    Raises:
        BadInput: another name.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)
    if norm == "layer":
        return nn.GroupNorm(1, channels)
    if norm == "none":
        return nn.Identity()
    raise BadInput("choosing a norm", received=f"norm={norm!r}", todo=nearest(str(norm), NORMS))
