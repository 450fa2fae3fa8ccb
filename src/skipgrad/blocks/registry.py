"""Every block by name, with a small example: what the conformity tests run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from skipgrad.blocks.attention import CausalSelfAttention
from skipgrad.blocks.bottleneck import BottleneckBlock
from skipgrad.blocks.dense import DenseLayer
from skipgrad.blocks.highway import HighwayLayer
from skipgrad.blocks.residual import BasicBlock, PlainBlock, PreActBlock
from skipgrad.blocks.transformer import FeedForward, TransformerBlock
from skipgrad.blocks.unet import DoubleConv, DownBlock, UpBlock
from skipgrad.core import Registry


@dataclass(frozen=True)
class BlockEntry:
    """A block in the registry.

    Attributes:
        make: builds a small one.
        inputs: shapes of the tensors its forward takes.
        outputs: shapes of the tensors it returns.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


BLOCKS: Registry[BlockEntry] = Registry("block")


def _enter(name: str, make: Callable[[], nn.Module], inputs: object, outputs: object) -> None:
    BLOCKS.register(name, BlockEntry(make, tuple(inputs), tuple(outputs)))  # type: ignore[arg-type]


_IMAGE, _HALF = (2, 4, 8, 8), (2, 8, 4, 4)
for _norm in ("batch", "group", "layer", "none"):
    _enter(f"plain-{_norm}", partial(PlainBlock, 4, 8, 2, norm=_norm), [_IMAGE], [_HALF])
    _enter(f"basic-{_norm}", partial(BasicBlock, 4, 8, 2, norm=_norm), [_IMAGE], [_HALF])
    _enter(f"preact-{_norm}", partial(PreActBlock, 4, 8, 2, norm=_norm), [_IMAGE], [_HALF])
    _enter(f"bottleneck-{_norm}", partial(BottleneckBlock, 4, 8, 2, norm=_norm), [_IMAGE], [_HALF])
    _enter(f"dense-{_norm}", partial(DenseLayer, 4, 3, norm=_norm), [_IMAGE], [(2, 7, 8, 8)])
_enter("basic-identity", partial(BasicBlock, 4, 4, shortcut="identity"), [_IMAGE], [_IMAGE])
_enter("basic-projection", partial(BasicBlock, 4, 8, 2, shortcut="projection"), [_IMAGE], [_HALF])
_enter("preact-projection", partial(PreActBlock, 4, 8, 2, shortcut="projection"), [_IMAGE], [_HALF])
_enter("bottleneck-pad", partial(BottleneckBlock, 4, 8, 2, shortcut="pad"), [_IMAGE], [_HALF])
_enter("highway", partial(HighwayLayer, 6), [(2, 6)], [(2, 6)])
_enter("attention", partial(CausalSelfAttention, 8, 2), [(2, 5, 8)], [(2, 5, 8)])
_enter("feed-forward", partial(FeedForward, 8), [(2, 5, 8)], [(2, 5, 8)])
_enter("transformer-preln", partial(TransformerBlock, 8, 2, norm_first=True), [(2, 5, 8)], [(2, 5, 8)])
_enter("transformer-postln", partial(TransformerBlock, 8, 2, norm_first=False), [(2, 5, 8)], [(2, 5, 8)])
_enter("double-conv", partial(DoubleConv, 4, 8), [_IMAGE], [(2, 8, 8, 8)])
_enter("unet-down", partial(DownBlock, 4, 8), [_IMAGE], [(2, 8, 8, 8), (2, 8, 4, 4)])
_enter("unet-up", partial(UpBlock, 8, 4, 4), [_HALF, _IMAGE], [_IMAGE])
_enter("unet-up-without", partial(UpBlock, 8, 4, 4), [_HALF], [_IMAGE])
