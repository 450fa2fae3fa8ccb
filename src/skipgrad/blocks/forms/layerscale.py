"""LayerScale: a small learned number for each channel of the branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, along, through
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears


class LayerScale(nn.Module):
    """x + diag(γ)·F(x), γ = ``init_values`` at the start: any shape that the branch keeps.

    Touvron et al., "Going deeper with image transformers" (arXiv 2103.17239).

    Args:
        branch: F.
        channels: channels of what F returns.
        init_values: where γ starts: 1e-1 up to 18 layers, 1e-5 up to 24, 1e-6 deeper (the paper's choice).
        dim: the dimension of the channels: −1 for tokens, 1 for images.
        shortcut: what x goes through on its way past the branch, where the shape changes; None for the identity.

    Raises:
        BadInput: in the forward, when branch and x do not add.
    """

    def __init__(
        self,
        branch: nn.Module,
        channels: int,
        init_values: float = 1e-5,
        dim: int = -1,
        *,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.branch, self.dim, self.shortcut = branch, dim, shortcut
        self.gamma = nn.Parameter(torch.full((channels,), float(init_values)))

    def forward(self, x: Tensor) -> Tensor:
        f = self.branch(x)
        return added(self, through(self.shortcut, x), f * along(self.gamma, f, self.dim))


FORMS.register(
    "layerscale",
    FormEntry(
        title="LayerScale",
        build=LayerScale,
        example=lambda: LayerScale(linears(), 6, init_values=0.25),
        shape=TOKENS,
        formula="y = x + diag(γ)·F(x), γ₀ = init_values",
        paper='Touvron et al., "Going deeper with image transformers", 2021 (arXiv 2103.17239)',
        shapes="any → the same; the branch keeps it",
        start="x + init_values·F(x): near the identity",
        initially=lambda m, x: x + m.branch(x) * 0.25,  # type: ignore[operator]
        finds=(Seen("add", "identity", 2),),
        when="Vision transformers and ConvNets of 18 layers and more. Keep γ out of weight decay (`sg.param_groups`).",
        cost="one number a channel, and a product",
        outside="timm LayerScale",
    ),
)
