"""The transformer block, with its layer norms on the branches (Pre-LN) or after the adds (Post-LN)."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.attention import CausalSelfAttention
from skipgrad.blocks.registry import enter


class FeedForward(nn.Module):
    """W₂ gelu(W₁ x): (N, T, D) → (N, T, D), four times wider inside.

    Args:
        d_model: features D.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class TransformerBlock(nn.Module):
    """Causal attention and a feed-forward net, each with a skip: (N, T, D) → (N, T, D).

    Pre-LN computes x + F(LN(x)); Post-LN computes LN(x + F(x)), whose norm sits on the gradient's main road
    (Xiong et al., "On layer normalization in the transformer architecture", arXiv 2002.04745).

    Args:
        d_model: features D.
        heads: attention heads.
        norm_first: True for Pre-LN, False for Post-LN.
    """

    def __init__(self, d_model: int, heads: int, *, norm_first: bool = True) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(d_model)
        self.attention = CausalSelfAttention(d_model, heads)
        self.norm2 = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model)

    def values(self, x: Tensor) -> Tensor:
        """The values its attention would take, (N, T, D); see `skipgrad.blocks.forms.ValueResidual`."""
        return self.attention.values(self.norm1(x) if self.norm_first else x)

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        if self.norm_first:
            x = x + self.attention(self.norm1(x), values)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x, values))
        return self.norm2(x + self.feed_forward(x))


enter("feed-forward", partial(FeedForward, 8), [(2, 5, 8)], [(2, 5, 8)])
enter("transformer-preln", partial(TransformerBlock, 8, 2, norm_first=True), [(2, 5, 8)], [(2, 5, 8)])
enter("transformer-postln", partial(TransformerBlock, 8, 2, norm_first=False), [(2, 5, 8)], [(2, 5, 8)])
