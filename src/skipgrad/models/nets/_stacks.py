"""Transformer blocks with any form of skip."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from skipgrad.blocks import CausalSelfAttention, FeedForward, TransformerBlock
from skipgrad.blocks.forms import (
    Admin,
    AttentionResidual,
    DeepNorm,
    DenseFormer,
    HyperConnections,
    Keel,
    Laurel,
    LayerScale,
    ManifoldHyperConnections,
    ReZero,
    SkipInit,
    StochasticDepth,
    ValueResidual,
)
from skipgrad.core import BadInput, nearest

# (branch, features, number of the branch, branches in all) → the branch with its skip
ADDING: dict[str, Callable[[nn.Module, int, int, int], nn.Module]] = {
    "rezero": lambda f, d, k, n: ReZero(f),
    "skipinit": lambda f, d, k, n: SkipInit(f),
    "layerscale": lambda f, d, k, n: LayerScale(f, d, 0.1),
    "stochastic-depth": lambda f, d, k, n: StochasticDepth(f, 1 - 0.3 * (k + 1) / n),
    "laurel": lambda f, d, k, n: Laurel(f, d, max(1, d // 16)),
}
# The same for forms that bring their norm: Post-LN only.
NORMED: dict[str, Callable[[nn.Module, int, int, int], nn.Module]] = {
    "deepnorm": lambda f, d, k, n: DeepNorm(f, nn.LayerNorm(d), n // 2),
    "admin": lambda f, d, k, n: Admin(f, d, nn.LayerNorm(d)),
    "keel": lambda f, d, k, n: Keel(f, nn.LayerNorm(d), nn.LayerNorm(d), n),
}
# (branches with their norms, features, streams) → all of them: Pre-LN only.
STREAMS: dict[str, Callable[[list[nn.Module], int, int], nn.Module]] = {
    "hyper-connections": lambda fs, d, s: HyperConnections(fs, d, s),
    "mhc": lambda fs, d, s: ManifoldHyperConnections(fs, d, s),
    "attention-residual": lambda fs, d, s: AttentionResidual(fs, d),
}
# Whole blocks, whose own skips stay as they are.
AROUND: dict[str, Callable[[list[nn.Module]], nn.Module]] = {
    "denseformer": DenseFormer,
    "value-residual": ValueResidual,
}


def transformer_stack(
    form: str, depth: int, norm_first: bool, d_model: int, heads: int, num_residual_streams: int
) -> nn.Module:
    """``depth`` blocks of attention and feed-forward, (N, T, D) → the same.

    Args:
        form: ``"residual"``, or a key of the tables above.
        depth: blocks.
        norm_first: Pre-LN or Post-LN.
        d_model: features D.
        heads: attention heads.
        num_residual_streams: for hyper-connections and mHC.

    Raises:
        BadInput: a form that these blocks do not have, or not with the norm there.
    """
    if form == "residual" or form in AROUND:
        blocks = [TransformerBlock(d_model, heads, norm_first=norm_first) for _ in range(depth)]
        return AROUND[form](list(blocks)) if form in AROUND else nn.Sequential(*blocks)
    one_way = NORMED if norm_first else STREAMS
    here = ["residual", *ADDING, *(STREAMS if norm_first else NORMED), *AROUND]
    if form not in here:
        other = "postln" if norm_first else "preln"
        raise BadInput(
            "building a transformer",
            received=f"form={form!r}, for a {'Pre' if norm_first else 'Post'}-LN net",
            todo=f"use skipgrad:{other}{depth} for it" if form in one_way else nearest(str(form), here, 12),
        )
    total = 2 * depth
    made = [CausalSelfAttention(d_model, heads) if k % 2 == 0 else FeedForward(d_model) for k in range(total)]
    if form in NORMED:
        return nn.Sequential(*(NORMED[form](f, d_model, k, total) for k, f in enumerate(made)))
    if form in STREAMS:
        return STREAMS[form]([_normed(f, d_model) for f in made], d_model, num_residual_streams)
    add = ADDING[form]
    if norm_first:
        return nn.Sequential(*(add(_normed(f, d_model), d_model, k, total) for k, f in enumerate(made)))
    return nn.Sequential(*(nn.Sequential(add(f, d_model, k, total), nn.LayerNorm(d_model)) for k, f in enumerate(made)))


def _normed(f: nn.Module, d_model: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(d_model), f)
