"""The building blocks of the built-in nets, as torch modules."""

from skipgrad.blocks.attention import CausalSelfAttention
from skipgrad.blocks.bottleneck import BottleneckBlock, PreActBottleneckBlock
from skipgrad.blocks.dense import DenseLayer
from skipgrad.blocks.forms import FORMS, FormEntry
from skipgrad.blocks.highway import HighwayLayer
from skipgrad.blocks.norms import NORMS, norm2d
from skipgrad.blocks.registry import BLOCKS, BlockEntry
from skipgrad.blocks.residual import BasicBlock, PlainBlock, PreActBlock
from skipgrad.blocks.shortcut import SHORTCUTS, PadSlice, make_shortcut
from skipgrad.blocks.transformer import FeedForward, TransformerBlock
from skipgrad.blocks.unet import DoubleConv, DownBlock, UpBlock

__all__ = [
    "BLOCKS",
    "FORMS",
    "NORMS",
    "SHORTCUTS",
    "BasicBlock",
    "BlockEntry",
    "BottleneckBlock",
    "CausalSelfAttention",
    "DenseLayer",
    "DoubleConv",
    "DownBlock",
    "FeedForward",
    "FormEntry",
    "HighwayLayer",
    "PadSlice",
    "PlainBlock",
    "PreActBlock",
    "PreActBottleneckBlock",
    "TransformerBlock",
    "UpBlock",
    "make_shortcut",
    "norm2d",
]
