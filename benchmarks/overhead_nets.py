"""The nets that overhead.py trains, each with one batch; a step takes about a second or less on one core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from skipgrad.models import resolve_model

Batch = tuple[nn.Module, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Net:
    """What is trained.

    Attributes:
        words: the net and its batch, as the table names them.
        smoke: the same for the tiny sizes of ``--smoke``.
        make: builds the model, its inputs and its labels; the argument says whether tiny.
    """

    words: str
    smoke: str
    make: Callable[[bool], Batch]


def _resnet20(smoke: bool) -> Batch:
    name, width, size, batch = ("skipgrad:resnet8", 4, 8, 2) if smoke else ("skipgrad:resnet20", 16, 32, 32)
    model = resolve_model(name, {"width": width, "norm": "batch", "in_channels": 3}).build()
    return model, torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))


def _resnet50(smoke: bool, batch: int = 8) -> Batch:
    import torchvision

    size, batch = (32, 2) if smoke else (64, batch)
    if smoke:
        bottleneck = torchvision.models.resnet.Bottleneck
        model = torchvision.models.ResNet(bottleneck, [1, 1, 1, 1], num_classes=10, groups=16, width_per_group=1)
    else:
        model = torchvision.models.resnet50(num_classes=10)
    return model, torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))


def _vit_s(smoke: bool) -> Batch:
    import timm

    size, batch = (32, 2) if smoke else (64, 8)
    small: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3} if smoke else {}
    model = timm.create_model("vit_small_patch16_224", img_size=size, num_classes=10, **small)
    return model, torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))


def _gpt2(smoke: bool, batch: int = 2) -> Batch:
    import transformers

    layers, width, heads, words, rows, length = (2, 48, 4, 64, 2, 8) if smoke else (12, 768, 12, 8192, batch, 64)
    config = transformers.GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, vocab_size=words, n_positions=length,
        bos_token_id=0, eos_token_id=0, use_cache=False,
    )  # fmt: skip
    ids = torch.randint(0, words, (rows, length))
    return transformers.GPT2LMHeadModel(config), ids, ids.roll(-1, 1).flatten()


NETS: dict[str, Net] = {
    "resnet20": Net("ResNet-20, 32x32, batch 32", "ResNet-8 of width 4, 8x8, batch 2", _resnet20),
    "resnet50": Net(
        "torchvision resnet50, 64x64, batch 8", "torchvision ResNet of 4 bottlenecks, 32x32, batch 2", _resnet50
    ),
    "vit-s": Net("timm ViT-S/16, 64x64, batch 8", "timm ViT, 2 layers of 48, 32x32, batch 2", _vit_s),
    "gpt2": Net(
        "transformers GPT-2, 12 layers of 768, 8,192 words, 2x64 tokens",
        "transformers GPT-2, 2 layers of 48, 64 words, 2x8 tokens",
        _gpt2,
    ),
}
SIZES = tuple(NETS)
# The two slowest with a smaller batch, for the thousand steps of a watch by default.
NETS["resnet50-2"] = replace(
    NETS["resnet50"], words="torchvision resnet50, 64x64, batch 2", make=lambda smoke: _resnet50(smoke, 2)
)
NETS["gpt2-1"] = replace(
    NETS["gpt2"],
    words="transformers GPT-2, 12 layers of 768, 8,192 words, 1x64 tokens",
    make=lambda smoke: _gpt2(smoke, 1),
)


def build(name: str, smoke: bool, device: str) -> Batch:
    """The model, inputs and labels of one net, from a fixed seed, on `device`."""
    torch.manual_seed(0)
    model, x, y = NETS[name].make(smoke)
    return model.to(device), x.to(device), y.to(device)
