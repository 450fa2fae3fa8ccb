"""One conformity suite over the registry of blocks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from skipgrad.blocks import (
    BLOCKS,
    BasicBlock,
    BottleneckBlock,
    CausalSelfAttention,
    HighwayLayer,
    PadSlice,
    PlainBlock,
    PreActBlock,
    TransformerBlock,
    UpBlock,
    make_shortcut,
    norm2d,
)
from skipgrad.core import BadInput

ENTRIES = [pytest.param(entry, id=name) for name, entry in BLOCKS.items()]


def _tuple(value: object) -> tuple:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_and_backward(entry, dtype):
    torch.manual_seed(0)
    block = entry.make().to(dtype)
    inputs = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in entry.inputs]
    outputs = _tuple(block(*inputs))
    assert tuple(tuple(o.shape) for o in outputs) == entry.outputs
    assert all(o.dtype == dtype for o in outputs)
    sum(o.square().sum() for o in outputs).backward()
    for tensor in [*inputs, *block.parameters()]:
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().sum() >= 0
    assert all(t.grad.abs().sum() > 0 for t in inputs)


@pytest.mark.parametrize("entry", ENTRIES)
def test_builds_without_memory(entry):
    with torch.device("meta"):
        block = entry.make()
        outputs = _tuple(block(*[torch.empty(shape) for shape in entry.inputs]))
    assert all(p.is_meta for p in block.parameters())
    assert tuple(tuple(o.shape) for o in outputs) == entry.outputs


@pytest.mark.parametrize("entry", ENTRIES)
def test_evaluation_mode_is_deterministic_and_leaves_the_state_alone(entry):
    torch.manual_seed(0)
    block = entry.make().eval()
    inputs = [torch.randn(shape) for shape in entry.inputs]
    before = {name: value.clone() for name, value in block.state_dict().items()}
    first, second = _tuple(block(*inputs)), _tuple(block(*inputs))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(before[name], value) for name, value in block.state_dict().items())


@pytest.mark.parametrize("entry", ENTRIES)
def test_weights_come_from_the_global_generator(entry):
    torch.manual_seed(3)
    first = entry.make().state_dict()
    torch.manual_seed(3)
    second = entry.make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_basic_block_is_the_plain_block_with_an_add():
    torch.manual_seed(0)
    plain = PlainBlock(4, 4, norm="none")
    basic = BasicBlock(4, 4, norm="none")
    basic.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(basic(x), torch.relu(plain.branch(x) + x))
    assert not torch.equal(basic(x), plain(x))


def test_pre_activation_block_adds_x_untouched():
    block = PreActBlock(4, 4, norm="none")
    nn.init.zeros_(block.conv2.weight)
    nn.init.zeros_(block.conv2.bias)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_bottleneck_with_a_dead_branch_is_the_shortcut():
    block = BottleneckBlock(4, 4, norm="none")
    nn.init.zeros_(block.conv3.weight)
    nn.init.zeros_(block.conv3.bias)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), torch.relu(x))


def test_pad_slice_keeps_values_and_adds_zeros():
    x = torch.randn(2, 3, 6, 6)
    y = PadSlice(3, 8, 2)(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, 2:5], x[:, :, ::2, ::2])
    assert y[:, :2].abs().sum() == 0
    assert y[:, 5:].abs().sum() == 0


def test_projection_has_weights_only_where_the_shape_changes():
    assert isinstance(make_shortcut("projection", 4, 4, 1, "batch"), nn.Identity)
    assert sum(p.numel() for p in make_shortcut("projection", 4, 8, 2, "none").parameters()) == 4 * 8 + 8


def test_highway_with_a_closed_gate_carries_x_along():
    layer = HighwayLayer(6, gate_bias=-80.0)
    nn.init.zeros_(layer.gate.weight)
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer(x), x)


def test_attention_sees_no_later_position():
    torch.manual_seed(0)
    attention = CausalSelfAttention(8, 2).double()
    x = torch.randn(1, 6, 8, dtype=torch.float64)
    changed = x.clone()
    changed[:, 4:] += 1
    difference = (attention(x) - attention(changed)).abs().sum(-1)[0]
    assert difference[:4].max() == 0
    assert difference[4:].min() > 0


def test_post_ln_normalises_the_sum_and_pre_ln_does_not():
    torch.manual_seed(0)
    x = 10 * torch.randn(2, 5, 8)
    post, pre = TransformerBlock(8, 2, norm_first=False), TransformerBlock(8, 2, norm_first=True)
    assert post(x).std(-1, correction=0).sub(1).abs().max() < 1e-3
    assert pre(x).std() > 5


def test_up_block_has_the_same_weights_with_and_without_a_skip():
    torch.manual_seed(0)
    block = UpBlock(8, 4, 4, norm="none")
    x, features = torch.randn(2, 8, 4, 4), torch.randn(2, 4, 8, 8)
    assert block(x).shape == block(x, features).shape
    assert not torch.equal(block(x), block(x, features))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: norm2d("bach", 4), "batch"),
        (lambda: make_shortcut("pod", 4, 8, 2, "none"), "pad"),
        (lambda: make_shortcut("identity", 4, 8, 2, "none"), "projection"),
        (lambda: PadSlice(8, 4), "shrink"),
        (lambda: CausalSelfAttention(8, 3), "divide"),
        (lambda: UpBlock(4, 8, 4), "at most"),
    ],
)
def test_mistakes_are_explained(make, words):
    with pytest.raises(BadInput, match=words):
        make()
