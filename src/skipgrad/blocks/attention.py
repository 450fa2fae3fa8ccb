"""Causal self-attention."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks.registry import enter
from skipgrad.core import BadInput


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention in which no position sees a later one: (N, T, D) → (N, T, D).

    Args:
        d_model: features D.
        heads: heads; D must be divisible by it.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or d_model % heads:
            raise BadInput(
                "building self-attention",
                received=f"d_model={d_model}, heads={heads}",
                todo="choose heads that divide d_model",
            )
        self.heads = heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def values(self, x: Tensor) -> Tensor:
        """The values of each position, (N, T, D): what a value residual mixes."""
        d = x.shape[-1]
        return F.linear(x, self.qkv.weight[2 * d :], self.qkv.bias[2 * d :])

    def forward(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        n, t, d = x.shape
        if values is None:
            q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            both = F.linear(x, self.qkv.weight[: 2 * d], self.qkv.bias[: 2 * d])
            q, k = both.view(n, t, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            v = values.view(n, t, self.heads, d // self.heads).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(n, t, d))


enter("attention", partial(CausalSelfAttention, 8, 2), [(2, 5, 8)], [(2, 5, 8)])
