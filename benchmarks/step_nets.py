"""The nets that `step.py` compares: ours and those of others, of the same shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import timm.layers
import timm.models.resnet
import torch
import torchvision
from torch import Tensor, nn

from skipgrad.blocks.forms import (
    HyperConnections,
    ManifoldHyperConnections,
    Residual,
    Reversible,
    ReversibleSequence,
    StochasticDepth,
)
from skipgrad.models import resolve_model

Variants = dict[str, tuple[nn.Module, Tensor]]


@dataclass(frozen=True)
class Case:
    """A comparison.

    Attributes:
        title: what is trained.
        make: the variants, each a model and its batch; ratios are to the first.
        goals: the largest ratio wanted of a variant.
    """

    title: str
    make: Callable[[], Variants]
    goals: dict[str, float] = field(default_factory=dict)


def ours(name: str, **args: object) -> nn.Module:
    """A built-in net."""
    return resolve_model(f"skipgrad:{name}", args).build()


def timm_resnet56() -> nn.Module:
    """The blocks of timm in the shape of a ResNet-56 with projections."""
    block, layers, c = timm.models.resnet.BasicBlock, [], 16
    for k, out in enumerate((16, 32, 64)):
        for i in range(9):
            stride = 2 if k and not i else 1
            down = None
            if stride > 1:
                down = nn.Sequential(nn.Conv2d(c, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            layers.append(block(c, out, stride, down))
            c = out
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return nn.Sequential(*stem, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def resnet56() -> Variants:
    x = torch.randn(32, 3, 32, 32)
    mine = ours("resnet56", width=16, in_channels=3, shortcut="projection")
    return {"timm's blocks": (timm_resnet56(), x), "skipgrad:resnet56": (mine, x)}


def resnet50() -> Variants:
    x = torch.randn(8, 3, 64, 64)
    return {
        "torchvision:resnet50": (torchvision.models.resnet50(), x),
        "skipgrad:imagenet_resnet50": (ours("imagenet_resnet50"), x),
    }


class TorchEncoder(nn.Module):
    """Torch's own Pre-LN encoder with a causal mask, in the shape of preln12."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.token, self.position = nn.Embedding(256, 128), nn.Embedding(64, 128)
        self.layers = nn.TransformerEncoder(layer, 12, nn.LayerNorm(128), enable_nested_tensor=False)
        self.head = nn.Linear(128, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(64))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        return self.head(self.layers(x, mask=self.mask, is_causal=True))


def transformer() -> Variants:
    ids = torch.randint(0, 256, (8, 64))
    variants: Variants = {"torch's TransformerEncoder": (TorchEncoder(), ids)}
    try:
        from x_transformers import Decoder, TransformerWrapper
    except ImportError:
        pass
    else:
        layers = Decoder(dim=128, depth=12, heads=4, attn_dim_head=32, ff_mult=4, attn_flash=True)
        theirs = TransformerWrapper(num_tokens=256, max_seq_len=64, attn_layers=layers)
        variants = {"x-transformers": (theirs, ids), **variants}
    return {**variants, "skipgrad:preln12": (ours("preln12", d_model=128), ids)}


def branches(many: int, width: int) -> list[nn.Module]:
    """Feed-forward branches with their norms."""
    return [
        nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        for _ in range(many)
    ]


class DropPathResidual(nn.Module):
    """x + timm's DropPath of the branch."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch, self.drop = branch, timm.layers.DropPath(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(self.branch(x))


def stochastic_depth() -> Variants:
    x = torch.randn(32, 64, 128)
    return {
        "timm DropPath .3": (nn.Sequential(*map(DropPathResidual, branches(12, 128))), x),
        "StochasticDepth, survival_prob .7": (
            nn.Sequential(*(StochasticDepth(f, survival_prob=0.7) for f in branches(12, 128))), x,
        ),
    }  # fmt: skip


def streams() -> Variants:
    x = torch.randn(16, 64, 128)
    return {
        "plain residual": (nn.Sequential(*map(Residual, branches(12, 128))), x),
        "hyper-connections, n = 4": (HyperConnections(branches(12, 128), 128, 4), x),
        "mHC, n = 4": (ManifoldHyperConnections(branches(12, 128), 128, 4), x),
        "mHC, n = 4, dynamic": (ManifoldHyperConnections(branches(12, 128), 128, 4, dynamic=True), x),
    }


class Plainly(nn.Module):
    """Reversible blocks by autograd's own backward."""

    def __init__(self, blocks: ReversibleSequence) -> None:
        super().__init__()
        self.blocks = blocks.blocks

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, 1)
        for block in self.blocks:
            x1, x2 = block.pair(x1, x2)  # type: ignore[operator]
        return torch.cat([x1, x2], 1)


def reversible_blocks(depth: int, width: int = 64) -> ReversibleSequence:
    """Reversible blocks of two 3×3 convolutions a branch, on half of ``width`` channels."""

    def branch() -> nn.Sequential:
        c = width // 2
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c, 3, 1, 1, bias=False)]
        return nn.Sequential(*layers)

    return ReversibleSequence(Reversible(branch(), branch()) for _ in range(depth))


def reversible() -> Variants:
    x = torch.randn(8, 64, 16, 16)
    return {
        "plain backward": (Plainly(reversible_blocks(10)), x),
        "reversible": (reversible_blocks(10), x),
    }


def densenet() -> Variants:
    x = torch.randn(16, 3, 32, 32)
    return {
        "plain concatenation": (ours("densenetbc100", in_channels=3), x),
        "memory_efficient": (ours("densenetbc100", in_channels=3, memory_efficient=True), x),
        "torchvision": (torchvision_densenet(100, False), x),
        "torchvision, memory_efficient": (torchvision_densenet(100, True), x),
    }


def torchvision_densenet(depth: int, memory_efficient: bool) -> nn.Module:
    """torchvision's DenseNet in the shape of DenseNet-BC on CIFAR."""
    net = torchvision.models.DenseNet(
        12, ((depth - 4) // 6,) * 3, 24, num_classes=10, memory_efficient=memory_efficient
    )
    net.features.conv0 = nn.Conv2d(3, 24, 3, 1, 1, bias=False)
    net.features.pool0 = nn.Identity()
    return net


CASES = {
    "resnet56": Case("ResNet-56 on 32 images of 32×32", resnet56, {"skipgrad:resnet56": 1.0}),
    "resnet50": Case("ResNet-50 on 8 images of 64×64", resnet50, {"skipgrad:imagenet_resnet50": 1.0}),
    "transformer": Case("12 Pre-LN blocks of 128 features on 8 × 64 ids", transformer, {"skipgrad:preln12": 1.0}),
    "stochastic-depth": Case(
        "12 feed-forward blocks of 128 features on 32 × 64 tokens", stochastic_depth,
        {"StochasticDepth, survival_prob .7": 1 / 1.2},
    ),
    "streams": Case("12 feed-forward blocks of 128 features on 16 × 64 tokens", streams),
    "reversible": Case("10 reversible blocks of 64 channels on 8 × 16×16", reversible, {"reversible": 1.5}),
    "densenet": Case("DenseNet-BC-100, growth 12, on 16 images of 32×32", densenet, {"memory_efficient": 1.1}),
}  # fmt: skip
