"""The residual nets of ImageNet: 18 and 34 layers of basic blocks; 50, 101 and 152 of bottlenecks.

He et al., "Deep residual learning for image recognition" (arXiv 1512.03385), table 1, with the stride on the 3×3
convolution as is usual now; and pre-activation ones, "Identity mappings in deep residual networks" (arXiv 1603.05027).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import BasicBlock, BottleneckBlock, PreActBlock, PreActBottleneckBlock, norm2d
from skipgrad.models.nets.registry import FAMILIES, Family

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ImageNetResNet(nn.Module):
    """7×7 stem, pooling, four stages, pooling, head: (N, in_channels, H, W) → (N, num_classes).

    Args:
        depth: 18, 34, 50, 101 or 152.
        width: channels of the first stage's 3×3 convolutions.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
        in_channels: channels of the images.
        num_classes: outputs of the head.
        preact: norm and ReLU before each convolution, and at the end of the net.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        norm: str = "batch",
        in_channels: int = 3,
        num_classes: int = 1000,
        preact: bool = False,
    ) -> None:
        super().__init__()
        deep = depth >= 50
        block = (PreActBottleneckBlock if deep else PreActBlock) if preact else BottleneckBlock if deep else BasicBlock
        self.conv = nn.Conv2d(in_channels, width, 7, 2, 3, bias=norm == "none")
        self.norm = nn.Identity() if preact else norm2d(norm, width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.preact = preact
        self.stages = nn.Sequential()
        channels = width
        for k, many in enumerate(BLOCKS[depth]):
            out = width * 2**k * (4 if deep else 1)
            strides = [2 if k else 1, *[1] * (many - 1)]
            blocks = []
            for stride in strides:
                blocks.append(block(channels, out, stride, norm=norm, shortcut="projection"))
                channels = out
            self.stages.append(nn.Sequential(*blocks))
        self.last_norm = norm2d(norm, channels) if preact else nn.Identity()
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = self.stages(self.pool(x if self.preact else F.relu(x)))
        if self.preact:
            x = F.relu(self.last_norm(x))
        return self.head(x.mean(dim=(2, 3)))


def imagenet_preresnet(
    depth: int, width: int = 64, norm: str = "batch", in_channels: int = 3, num_classes: int = 1000
) -> ImageNetResNet:
    """A pre-activation one."""
    return ImageNetResNet(depth, width, norm, in_channels, num_classes, preact=True)


def imagenet_resnet(
    depth: int, width: int = 64, norm: str = "batch", in_channels: int = 3, num_classes: int = 1000
) -> ImageNetResNet:
    """A post-activation one; 25.6 million weights at depth 50."""
    return ImageNetResNet(depth, width, norm, in_channels, num_classes)


_DEPTHS = tuple(BLOCKS)
for _name, _make, _rank in (("imagenet_resnet", imagenet_resnet, 9), ("imagenet_preresnet", imagenet_preresnet, 10)):
    _family = Family(
        _make, "image", "digits", 18, formula="18, 34, 50, 101 and 152", typical=(18, 50), depths=_DEPTHS, size=64
    )
    FAMILIES.register(_name, _family, rank=_rank)
