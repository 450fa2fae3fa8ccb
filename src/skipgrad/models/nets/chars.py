"""Small character transformers, Pre-LN and Post-LN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.core import BadInput
from skipgrad.models.nets._stacks import transformer_stack
from skipgrad.models.nets.registry import FAMILIES, Family


class CharTransformer(nn.Module):
    """Predicts the next token at each position: ids (N, T) → logits (N, T, vocab), T ≤ context.

    Args:
        depth: transformer blocks.
        norm_first: Pre-LN (with a last norm before the head) or Post-LN.
        d_model: features.
        heads: attention heads.
        vocab: number of tokens.
        context: longest sequence.
        form: of the skips, a name in `skipgrad.blocks.FORMS`.
        num_residual_streams: for hyper-connections and mHC.
    """

    def __init__(
        self,
        depth: int,
        norm_first: bool,
        *,
        d_model: int = 64,
        heads: int = 4,
        vocab: int = 256,
        context: int = 64,
        form: str = "residual",
        num_residual_streams: int = 4,
    ) -> None:
        super().__init__()
        self.context = context
        self.token = nn.Embedding(vocab, d_model)
        self.position = nn.Embedding(context, d_model)
        self.blocks = transformer_stack(form, depth, norm_first, d_model, heads, num_residual_streams)
        self.norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.head = nn.Linear(d_model, vocab)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > self.context:
            raise BadInput(
                "running a character transformer",
                received=f"{ids.shape[1]} tokens, its context is {self.context}",
                todo="build it with a larger context",
            )
        positions = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.norm(self.blocks(self.token(ids) + self.position(positions))))


def preln(
    depth: int,
    d_model: int = 64,
    heads: int = 4,
    vocab: int = 256,
    context: int = 64,
    form: str = "residual",
    num_residual_streams: int = 4,
) -> CharTransformer:
    """A Pre-LN character transformer of ``depth`` blocks; ``form`` is that of its skips."""
    return CharTransformer(
        depth, True, d_model=d_model, heads=heads, vocab=vocab, context=context, form=form,
        num_residual_streams=num_residual_streams,
    )  # fmt: skip


def postln(
    depth: int, d_model: int = 64, heads: int = 4, vocab: int = 256, context: int = 64, form: str = "residual"
) -> CharTransformer:
    """A Post-LN character transformer of ``depth`` blocks; ``form`` is that of its skips."""
    return CharTransformer(depth, False, d_model=d_model, heads=heads, vocab=vocab, context=context, form=form)


FAMILIES.register("preln", Family(preln, "text", "text", 1, 1, "any from 1"), rank=7)
FAMILIES.register("postln", Family(postln, "text", "text", 1, 1, "any from 1"), rank=8)
