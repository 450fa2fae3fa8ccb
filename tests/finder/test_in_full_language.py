"""Every field a user reads, for each skip of three models, written down by hand from their definitions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from skipgrad.core import SkipGraph
from skipgrad.finder import find_built

# name, kind, shortcut, long, span, fan_in, branches, fork, fork_shape, merge_shape, owner
Expected = tuple[str, str, str, bool, int, int, tuple[tuple[str, ...], ...], str, tuple[int, ...], tuple[int, ...], str]


def said(graph: SkipGraph) -> list[Expected]:
    return [
        (s.name, s.kind, s.shortcut, s.long, s.span, s.fan_in, s.branches, s.fork, s.fork_shape, s.merge_shape, s.owner)
        for s in graph
    ]


def found(make: Callable[[], Any], inputs: dict[str, torch.Tensor]) -> SkipGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constructors announce renamed arguments
        return find_built(make, lambda device: ((), {k: v.to(device) for k, v in inputs.items()}))


def under(module: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{n}" for n in names)


def test_gpt2() -> None:
    tf = pytest.importorskip("transformers")
    config = tf.GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=20, n_positions=8)
    graph = found(lambda: tf.GPT2Model(config), {"input_ids": torch.full((1, 6), 3)})
    shape = (1, 6, 16)
    attention = [(under(f"h.{k}", "ln_1", "attn.c_attn", "attn.c_proj"),) for k in range(2)]
    mlp = [(under(f"h.{k}", "ln_2", "mlp.c_fc", "mlp.c_proj"),) for k in range(2)]
    assert said(graph) == [
        ("h.0", "add", "identity", False, 2, 2, attention[0], "drop", shape, shape, "h.0"),
        ("h.0#2", "add", "identity", False, 2, 2, mlp[0], "h.0", shape, shape, "h.0"),
        ("h.1", "add", "identity", False, 2, 2, attention[1], "h.0", shape, shape, "h.1"),
        ("h.1#2", "add", "identity", False, 2, 2, mlp[1], "h.1", shape, shape, "h.1"),
    ]
    assert [(o.name, o.kind) for o in graph.others] == [("root", "injection")]  # the positions
    assert (graph.model, graph.unknown) == ("GPT2Model", ())


def test_t5() -> None:
    tf = pytest.importorskip("transformers")
    config = tf.T5Config(
        d_model=16, d_ff=24, d_kv=8, num_heads=2, num_layers=1, num_decoder_layers=1, vocab_size=20, pad_token_id=0
    )
    inputs = {"input_ids": torch.full((1, 6), 3), "decoder_input_ids": torch.full((1, 5), 3)}
    graph = found(lambda: tf.T5Model(config), inputs)

    def attention(layer: str, name: str, *projections: str) -> tuple[tuple[str, ...]]:
        return (under(layer, "layer_norm", *under(name, *projections)),)

    def mlp(layer: str) -> tuple[tuple[str, ...]]:
        return (under(layer, "layer_norm", "DenseReluDense.wi", "DenseReluDense.wo"),)

    e0, e1 = under("encoder.block.0.layer", "0", "1")
    d0, d1, d2 = under("decoder.block.0.layer", "0", "1", "2")
    enc, dec = (1, 6, 16), (1, 5, 16)
    # The learned bias of relative positions enters the attention op: a learned tensor, so a weighted op.
    every = ("q", "k", "v", "relative_attention_bias", "o")
    # In cross-attention k and v are made from the encoder's output: they are no part of what the shortcut bypasses.
    cross = attention(d1, "EncDecAttention", "q", "o")
    assert said(graph) == [
        (e0, "add", "identity", False, 4, 2, attention(e0, "SelfAttention", *every), "encoder.dropout", enc, enc, e0),
        (e1, "add", "identity", False, 2, 2, mlp(e1), e0, enc, enc, e1),
        (d0, "add", "identity", False, 4, 2, attention(d0, "SelfAttention", *every), "decoder.dropout", dec, dec, d0),
        (d1, "add", "identity", False, 2, 2, cross, d0, dec, dec, d1),
        (d2, "add", "identity", False, 2, 2, mlp(d2), d1, dec, dec, d2),
    ]
    assert (graph.others, graph.unknown) == ((), ())


def test_unet2d() -> None:
    diffusers = pytest.importorskip("diffusers")

    def make() -> Any:
        return diffusers.UNet2DModel(
            sample_size=8, layers_per_block=1, block_out_channels=(8, 16), down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2, norm_num_groups=4, add_attention=False,
        )  # fmt: skip

    graph = found(make, {"sample": torch.zeros(1, 3, 8, 8), "timestep": torch.zeros(1, dtype=torch.long)})
    d0, d1 = "down_blocks.0.resnets.0", "down_blocks.1.resnets.0"
    m0, m1 = under("mid_block.resnets", "0", "1")
    u00, u01, u10, u11 = (f"up_blocks.{b}.resnets.{k}" for b in range(2) for k in range(2))
    down, up = "down_blocks.0.downsamplers.0.conv", "up_blocks.0.upsamplers.0.conv"

    def branch(resnet: str) -> tuple[str, ...]:
        return under(resnet, "norm1", "conv1", "norm2", "conv2")  # the time embedding does not descend from x

    def whole(resnet: str) -> tuple[str, ...]:
        return (*branch(resnet), f"{resnet}.conv_shortcut")

    def block(name: str, fork: str, before: tuple[int, ...], after: tuple[int, ...]) -> Expected:
        kind = "identity" if before == after else "projection"
        return name, "add", kind, False, 2, 2, (branch(name),), fork, before, after, name

    middle = (*whole(d1), *branch(m0), *branch(m1), *whole(u00))  # 3 + 2 + 2 + 3 convolutions
    bottom = (down, *middle, *whole(u01), up)  # 1 + 10 + 3 + 1
    outer = (*branch(d0), *bottom, *whole(u10))  # 2 + 15 + 3
    small, large = (1, 16, 4, 4), (1, 8, 8, 8)
    b0, b1 = "up_blocks.0", "up_blocks.1"
    assert said(graph) == [
        block(d0, "conv_in", large, large),
        block(d1, down, (1, 8, 4, 4), small),
        block(m0, d1, small, small),
        block(m1, m0, small, small),
        (b0, "concat", "identity", True, 4, 2, ((*branch(m0), *branch(m1)),), d1, small, (1, 32, 4, 4), b0),
        block(u00, b0, (1, 32, 4, 4), small),
        (f"{b0}#2", "concat", "identity", True, 10, 2, (middle,), down, (1, 8, 4, 4), (1, 24, 4, 4), b0),
        block(u01, b0, (1, 24, 4, 4), small),
        (b1, "concat", "identity", True, 15, 2, (bottom,), d0, large, (1, 24, 8, 8), b1),
        block(u10, b1, (1, 24, 8, 8), large),
        (f"{b1}#2", "concat", "identity", True, 20, 2, (outer,), "conv_in", large, (1, 16, 8, 8), b1),
        block(u11, b1, (1, 16, 8, 8), large),
    ]
    # The time embedding is added to every block's first convolution, broadcast.
    assert [(o.name, o.kind) for o in graph.others] == [(r, "injection") for r in (d0, d1, m0, m1, u00, u01, u10, u11)]
    assert (graph.unknown, graph.how) == ((), "meta")
