"""ScaleLong: a long skip whose shortcut is made smaller, by its place or by what is learned."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, along, concatenated
from skipgrad.blocks.forms.long_concat import MERGES, down_and_up
from skipgrad.blocks.forms.registry import FORMS, IMAGE, FormEntry, Seen
from skipgrad.core import BadInput, nearest

MODES = ("constant", "sqrt", "learned")


class ScaleLong(nn.Module):
    """cat(κᵢ·x, inner(x)) or κᵢ·x + inner(x): as `LongSkip`, with a scale.

    Huang et al., "ScaleLong: towards more stable training of diffusion model via scaling network long skip connection"
    (arXiv 2310.13545). κᵢ = κ^(i−1) for the i-th long skip, counted from the outermost; or 1/√2 for all; or, learned,
    one number a channel in (0, 1) from a small net on the mean of each channel.

    Args:
        inner: what the skip goes around.
        mode: ``"constant"``, ``"sqrt"`` or ``"learned"``.
        index: i, from 1.
        kappa: κ of the constant mode, in (0, 1].
        channels: channels of x, for the learned mode.
        merge: ``"concat"`` or ``"add"``.
        dim: the dimension of the channels.

    Raises:
        BadInput: an argument out of range; in the forward, shapes that do not fit.
    """

    def __init__(
        self,
        inner: nn.Module,
        mode: Literal["constant", "sqrt", "learned"] = "constant",
        *,
        index: int = 1,
        kappa: float = 0.7,
        channels: int | None = None,
        merge: Literal["concat", "add"] = "concat",
        dim: int = 1,
    ) -> None:
        super().__init__()
        if mode not in MODES or merge not in MERGES:
            word, known = (mode, MODES) if mode not in MODES else (merge, MERGES)
            raise BadInput("building a scaled long skip", received=repr(word), todo=nearest(str(word), known))
        if index < 1 or not 0 < kappa <= 1 or (mode == "learned" and not channels):
            raise BadInput(
                "building a scaled long skip",
                received=f"index={index}, kappa={kappa}, channels={channels}",
                todo="give an index of at least 1, a kappa in (0, 1] and, for the learned mode, the channels of x",
            )
        self.inner, self.mode, self.merge, self.dim = inner, mode, merge, dim
        self.scale = kappa ** (index - 1) if mode == "constant" else 2**-0.5
        if mode == "learned":
            assert channels is not None
            narrow = max(1, channels // 4)
            self.net = nn.Sequential(nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        short = self.scale * x if self.mode != "learned" else x * self._learned(x)
        if self.merge == "add":
            return added(self, short, self.inner(x))
        return concatenated(self, short, self.inner(x), self.dim)

    def _learned(self, x: Tensor) -> Tensor:
        channels_last = x.movedim(self.dim, -1)
        means = channels_last.flatten(1, -2).mean(1)
        return self.net(means).view(x.shape[0], *along(means[0], x, self.dim).shape[1:])


FORMS.register(
    "scalelong",
    FormEntry(
        title="ScaleLong",
        build=ScaleLong,
        example=lambda: ScaleLong(down_and_up(), index=2),
        shape=IMAGE,
        formula="y = cat(κ^(i−1)·x, inner(x)); or 1/√2, or learned",
        paper='Huang et al., "ScaleLong", 2023 (arXiv 2310.13545)',
        shapes="(N, C, …) → (N, C + C′, …), or the same with `merge='add'`",
        start="cat(κ^(i−1)·x, inner(x))",
        initially=lambda m, x: torch.cat([0.7 * x, m.inner(x)], 1),  # type: ignore[operator]
        finds=(Seen("concat", "scaled", 1, long=True),),
        when="Deep U-Nets, those of diffusion models above all, whose loss jumps: hidden values and gradients "
        "stay bounded.",
        cost="one product; learned, a net of two small matrices",
        sees="A learned scale is computed from x, so that the shortcut is no longer linear in it: `find` lists no "
        "skip there, by definition.",
    ),
)
