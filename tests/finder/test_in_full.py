"""Three vision models with every field of every skip written by hand, from their definitions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from skipgrad.core import Skip, SkipGraph
from skipgrad.finder import find_built

tv = pytest.importorskip("torchvision").models
smp = pytest.importorskip("segmentation_models_pytorch")


def found(make: Callable[[], nn.Module]) -> SkipGraph:
    return find_built(make, lambda device: ((torch.zeros(2, 3, 64, 64, device=device),), {}))


def conv_pair(path: str) -> tuple[str, ...]:
    """A basic block's weights in order of execution."""
    return (f"{path}.conv1", f"{path}.bn1", f"{path}.conv2", f"{path}.bn2")


def projection(path: str) -> tuple[str, ...]:
    return (f"{path}.downsample.0", f"{path}.downsample.1")


def basic(
    name: str, fork: str, before: tuple[int, int], after: tuple[int, int], at: tuple[int, int], previous: str | None
) -> Skip:
    """A residual basic block: ``before`` and ``after`` are (channels, size), ``at`` is (start, end)."""
    projected = before != after
    return Skip(
        name=name,
        kind="add",
        shortcut="projection" if projected else "identity",
        long=False,
        span=2,
        fan_in=2,
        branches=(conv_pair(name),),
        fork_shape=(2, before[0], before[1], before[1]),
        merge_shape=(2, after[0], after[1], after[1]),
        owner=name,
        fork=fork,
        start=at[0],
        end=at[1],
        shortcut_ops=("conv2d", "batch_norm") if projected else (),
        shortcut_modules=projection(name) if projected else (),
        tails=((),),
        trunk=() if previous is None else ("relu",),
        previous=previous,
    )


def resnet18_blocks(root: str) -> tuple[Skip, ...]:
    """The eight skips of ResNet-18 for images of 64 pixels; one layer, the stem's, comes before them."""
    r = root
    return (
        basic(f"{r}layer1.0", f"{r}maxpool", (64, 16), (64, 16), (1, 3), None),
        basic(f"{r}layer1.1", f"{r}layer1.0.relu", (64, 16), (64, 16), (3, 5), f"{r}layer1.0"),
        basic(f"{r}layer2.0", f"{r}layer1.1.relu", (64, 16), (128, 8), (5, 8), f"{r}layer1.1"),
        basic(f"{r}layer2.1", f"{r}layer2.0.relu", (128, 8), (128, 8), (8, 10), f"{r}layer2.0"),
        basic(f"{r}layer3.0", f"{r}layer2.1.relu", (128, 8), (256, 4), (10, 13), f"{r}layer2.1"),
        basic(f"{r}layer3.1", f"{r}layer3.0.relu", (256, 4), (256, 4), (13, 15), f"{r}layer3.0"),
        basic(f"{r}layer4.0", f"{r}layer3.1.relu", (256, 4), (512, 2), (15, 18), f"{r}layer3.1"),
        basic(f"{r}layer4.1", f"{r}layer4.0.relu", (512, 2), (512, 2), (18, 20), f"{r}layer4.0"),
    )


RESNET18_LAYERS = [
    "conv1",
    "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2",
    "layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv1", "layer2.1.conv2",
    "layer3.0.conv1", "layer3.0.conv2", "layer3.0.downsample.0", "layer3.1.conv1", "layer3.1.conv2",
    "layer4.0.conv1", "layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv1", "layer4.1.conv2",
]  # fmt: skip


def same(graph: SkipGraph, expected: tuple[Skip, ...]) -> None:
    assert [s.name for s in graph] == [s.name for s in expected]
    for skip, by_hand in zip(graph, expected, strict=True):
        assert skip == by_hand
    assert graph.unknown == ()
    assert graph.how == "meta"
    assert graph.training


def test_resnet18_in_full() -> None:
    graph = found(lambda: tv.resnet18(weights=None))
    same(graph, resnet18_blocks(""))
    assert [layer.name for layer in graph.layers] == [*RESNET18_LAYERS, "fc"]
    assert graph.others == ()


def dense(name: str, layer: str, group: tuple[int, int], at: tuple[int, int], fork: str, fan_in: int) -> Skip:
    """A concat of DenseNet: ``layer`` made the newest operand; ``group`` is (channels of the other operands, size)."""
    channels, size = group
    return Skip(
        name=name,
        kind="concat",
        shortcut="identity",
        long=False,
        span=2,
        fan_in=fan_in,
        branches=((f"{layer}.norm1", f"{layer}.conv1", f"{layer}.norm2", f"{layer}.conv2"),),
        fork_shape=(2, channels, size, size),
        merge_shape=(2, channels + 4, size, size),
        owner=name,
        fork=fork,
        start=at[0],
        end=at[1],
        shortcut_ops=(),
        shortcut_modules=(),
        tails=((),),
        trunk=(),
        previous=None,
    )


def test_densenet_in_full() -> None:
    """Two blocks of two layers: the second layer concatenates the first's output, the block's end both."""
    graph = found(
        lambda: tv.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, bn_size=2, num_classes=3)
    )
    b1, b2 = "features.denseblock1", "features.denseblock2"
    same(
        graph,
        (
            dense(f"{b1}.denselayer2", f"{b1}.denselayer1", (8, 16), (1, 3), "features.pool0", 2),
            dense(b1, f"{b1}.denselayer2", (12, 16), (3, 5), f"{b1}.denselayer1.conv2", 3),
            dense(f"{b2}.denselayer2", f"{b2}.denselayer1", (8, 8), (6, 8), "features.transition1.pool", 2),
            dense(b2, f"{b2}.denselayer2", (12, 8), (8, 10), f"{b2}.denselayer1.conv2", 3),
        ),
    )
    assert graph.others == ()


def up(
    level: int, fork: str, channels: tuple[int, int], size: int, at: tuple[int, int], span: int,
    branch: tuple[str, ...], previous: str | None,
) -> Skip:  # fmt: skip
    """A concat of the decoder: ``channels`` are those of the encoder's feature (the fork) and of the merge."""
    return Skip(
        name=f"decoder.blocks.{level}",
        kind="concat",
        shortcut="identity",
        long=True,
        span=span,
        fan_in=2,
        branches=(branch,),
        fork_shape=(2, channels[0], size, size),
        merge_shape=(2, channels[1], size, size),
        owner=f"decoder.blocks.{level}",
        fork=fork,
        start=at[0],
        end=at[1],
        shortcut_ops=(),
        shortcut_modules=(),
        # The deepest one leaves the encoder by its last add; the others leave a convolution, norm and ReLU.
        tails=(("add", "relu", "interpolate") if level == 0 else ("relu", "interpolate"),),
        trunk=() if previous is None else ("relu",),
        previous=previous,
    )


def stage(k: int) -> tuple[str, ...]:
    first, second = f"encoder.layer{k}.0", f"encoder.layer{k}.1"
    return (*conv_pair(first), *(projection(first) if k > 1 else ()), *conv_pair(second))


def decoder(level: int) -> tuple[str, ...]:
    path = f"decoder.blocks.{level}"
    return (f"{path}.conv1.0", f"{path}.conv1.1", f"{path}.conv2.0", f"{path}.conv2.1")


def test_unet_in_full() -> None:
    """Each long concat goes around all that lies below it: encoder stages on the way down, decoder blocks back up."""
    graph = found(lambda: smp.Unet("resnet18", encoder_weights=None))
    last = ("encoder.layer1.1", "encoder.layer2.1", "encoder.layer3.1")
    below3 = stage(4)
    below2 = (*stage(3), *below3, *decoder(0))
    below1 = (*stage(2), *below2, *decoder(1))
    below0 = (*stage(1), *below1, *decoder(2))
    concats = (
        up(0, f"{last[2]}.relu", (256, 512 + 256), 4, (15, 20), 5, below3, last[2]),
        up(1, f"{last[1]}.relu", (128, 256 + 128), 8, (10, 22), 5 + 5 + 2, below2, last[1]),
        up(2, f"{last[0]}.relu", (64, 128 + 64), 16, (5, 24), 5 + 5 + 5 + 2 + 2, below1, last[0]),
        up(3, "encoder.relu", (64, 64 + 64), 32, (1, 26), 4 + 5 + 5 + 5 + 2 + 2 + 2, below0, None),
    )
    same(graph, (*resnet18_blocks("encoder."), *concats))
    assert [layer.name for layer in graph.layers] == [
        *(f"encoder.{name}" for name in RESNET18_LAYERS),
        *(f"decoder.blocks.{k}.conv{c}.0" for k in range(5) for c in (1, 2)),
        "segmentation_head.0",
    ]
    assert graph.others == ()
