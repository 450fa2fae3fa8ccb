"""CIFAR-style nets of 6k+2 layers: plain, residual and pre-activation residual.

He et al., "Deep residual learning for image recognition" (arXiv 1512.03385), section 4.2: a 3×3 convolution, three
stages of k blocks of two 3×3 convolutions at widths w, 2w, 4w, global average pooling and a linear head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.blocks import BasicBlock, PlainBlock, PreActBlock, norm2d
from skipgrad.core import BadInput
from skipgrad.models.nets._blocks import blocks_of, norm_for
from skipgrad.models.nets.registry import FAMILIES, Family


class CifarNet(nn.Module):
    """Stem, three stages of blocks, pooling, head: (N, in_channels, H, W) → (N, num_classes); H, W ≥ 4.

    Args:
        depth: weighted layers on the longest path, 6k+2 with k ≥ 1.
        block: makes a block from ``(in_channels, out_channels, stride, norm=norm)``.
        width: channels of the first stage.
        norm: ``"batch"``, ``"group"``, ``"layer"`` or ``"none"``.
        in_channels: channels of the images.
        num_classes: outputs of the head.
        preact: blocks activate before their convolutions, so that the net ends with a norm and a ReLU.
    """

    def __init__(
        self,
        depth: int,
        block: Callable[..., nn.Module],
        *,
        width: int,
        norm: str,
        in_channels: int,
        num_classes: int,
        preact: bool = False,
    ) -> None:
        super().__init__()
        if width < 1 or in_channels < 1 or num_classes < 1:
            raise BadInput(
                f"building a net of {depth} layers",
                received=f"width={width}, in_channels={in_channels}, num_classes={num_classes}",
                todo="give positive numbers",
            )
        self.preact = preact
        self.conv = nn.Conv2d(in_channels, width, 3, 1, 1, bias=norm == "none")
        self.norm = nn.Identity() if preact else norm2d(norm, width)
        self.stage1 = self._stage(block, depth, width, width, 1, norm)
        self.stage2 = self._stage(block, depth, width, 2 * width, 2, norm)
        self.stage3 = self._stage(block, depth, 2 * width, 4 * width, 2, norm)
        self.last_norm = norm2d(norm, 4 * width) if preact else nn.Identity()
        self.head = nn.Linear(4 * width, num_classes)

    @staticmethod
    def _stage(block: Callable[..., nn.Module], depth: int, c: int, out: int, stride: int, norm: str) -> nn.Sequential:
        first = block(c, out, stride, norm=norm)
        return nn.Sequential(first, *[block(out, out, 1, norm=norm) for _ in range((depth - 2) // 6 - 1)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if not self.preact:
            x = F.relu(x)
        x = self.stage3(self.stage2(self.stage1(x)))
        if self.preact:
            x = F.relu(self.last_norm(x))
        return self.head(x.mean(dim=(2, 3)))


def plain(depth: int, width: int = 8, norm: str = "none", in_channels: int = 1, num_classes: int = 10) -> CifarNet:
    """A plain net: no skip anywhere. See `plain56` in docs/models.md for what was measured on it.

    The default is ``norm="none"`` with PyTorch's own initialisation, which is what a person gets who stacks
    convolutions; its gradient vanishes. plain56 on digits: the output gradient of the first layer is 7e-28 of the
    last's, and the training loss stays at ln 10 at every rate from .01 to .1 in 100 steps, where that of the residual
    net without norm ends between .30 and 1.24 in 11 of 12 runs. With ``norm="batch"`` the gradient of a deep plain
    net does not vanish at the start but *grows* towards the input; such a net trains badly too, for another reason.
    """
    return CifarNet(depth, PlainBlock, width=width, norm=norm, in_channels=in_channels, num_classes=num_classes)


def resnet(
    depth: int,
    width: int = 8,
    norm: str | None = None,
    in_channels: int = 1,
    num_classes: int = 10,
    shortcut: str = "pad",
    form: str = "residual",
) -> CifarNet:
    """A residual net; ``shortcut`` is "pad" (option A) or "projection" (option B) where the shape changes.

    ``form`` is that of its skips: "residual", "rezero", "skipinit", "layerscale", "stochastic-depth", "fixup" or
    "nfnet". ``norm`` is "batch" where it is not given, and "none" for the last two.
    """
    norm = norm_for(form, norm)
    residual = form == "residual"
    block = partial(BasicBlock, shortcut=shortcut) if residual else blocks_of(form, depth, shortcut, preact=False)
    return CifarNet(depth, block, width=width, norm=norm, in_channels=in_channels, num_classes=num_classes)


def preresnet(
    depth: int,
    width: int = 8,
    norm: str | None = None,
    in_channels: int = 1,
    num_classes: int = 10,
    shortcut: str = "pad",
    form: str = "preact",
) -> CifarNet:
    """A pre-activation residual net (He et al. 2016, arXiv 1603.05027); ``form`` as in `resnet`, "preact" for the
    plain one."""
    norm = norm_for(form, norm)
    plain_skips = form in ("preact", "residual")
    block = partial(PreActBlock, shortcut=shortcut) if plain_skips else blocks_of(form, depth, shortcut, preact=True)
    kinds: dict[str, Any] = {"width": width, "norm": norm, "in_channels": in_channels, "num_classes": num_classes}
    return CifarNet(depth, block, preact=True, **kinds)


FAMILIES.register("plain", Family(plain, "image", "digits", 8, 6, "6k+2", (20, 56)), rank=1)
FAMILIES.register("resnet", Family(resnet, "image", "digits", 8, 6, "6k+2", (20, 56, 110)), rank=2)
FAMILIES.register("preresnet", Family(preresnet, "image", "digits", 8, 6, "6k+2", (20, 56)), rank=3)
