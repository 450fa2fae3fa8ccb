"""Noisy images of shapes with thin bars, and encoder–decoder nets that differ in what joins the two: for D9 and D11."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32
JOINS = ("none", "concat", "add", "indices")


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 1, 32, 32) images and masks: discs, boxes and bars 1.8 pixels thin, under noise as strong as they are."""
    draw = np.random.default_rng(seed)
    x, y = np.zeros((count, SIDE, SIDE), "f"), np.zeros((count, SIDE, SIDE), "f")
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for i in range(count):
        for _ in range(draw.integers(2, 5)):
            cx, cy = draw.uniform(3, SIDE - 3, 2)
            size = draw.uniform(2, 6)
            match draw.integers(3):
                case 0:
                    mask = (columns - cx) ** 2 + (rows - cy) ** 2 < size * size
                case 1:
                    mask = (abs(columns - cx) < size) & (abs(rows - cy) < 0.6 * size)
                case _:
                    a = draw.uniform(0, np.pi)
                    far = abs((columns - cx) * np.sin(a) - (rows - cy) * np.cos(a))
                    mask = (far < 0.9) & ((columns - cx) ** 2 + (rows - cy) ** 2 < 64)
            y[i][mask] = 1
        x[i] = y[i] * draw.uniform(0.5, 1) + 0.5 * draw.standard_normal((SIDE, SIDE))
    return torch.tensor(x)[:, None], torch.tensor(y)[:, None]


class Residual(nn.Sequential):
    """Two 3×3 convolutions with batch norm around which x is carried, through a 1×1 convolution where widths differ."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside),
        )  # fmt: skip
        self.project = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer in list(self)[:5]:
            h = layer(h)
        return F.relu(h + self.project(x))


class ShapeNet(nn.Module):
    """Four levels down and up; ``join`` says what the way up gets of the way down.

    Args:
        join: ``"none"``; ``"concat"`` (U-Net); ``"add"`` (FPN: a 1×1 convolution of the encoder's features is added);
            ``"indices"`` (SegNet: where each maximum was).
        width: channels of the first level.
    """

    def __init__(self, join: str = "concat", width: int = 8, levels: int = 3) -> None:
        super().__init__()
        self.join = join
        c = [width * 2**k for k in range(levels + 1)]
        self.down = nn.ModuleList(Residual(1 if k == 0 else c[k - 1], c[k]) for k in range(levels + 1))
        self.narrow = nn.ModuleList(nn.Conv2d(c[k + 1], c[k], 1) for k in range(levels))
        self.lateral = nn.ModuleList(nn.Conv2d(c[k], c[k], 1) for k in range(levels if join == "add" else 0))
        self.up = nn.ModuleList(Residual(c[k] * (2 if join == "concat" else 1), c[k]) for k in range(levels))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        features, places = [], []
        for k, block in enumerate(self.down):
            if k:
                x, where = F.max_pool2d(x, 2, return_indices=True)
                places.append(where)
            x = block(x)
            features.append(x)
        for k in reversed(range(len(self.up))):
            x = self.narrow[k](x)
            x = F.max_unpool2d(x, places[k], (2, 2)) if self.join == "indices" else F.interpolate(x, scale_factor=2.0)
            if self.join == "concat":
                x = torch.cat([x, features[k]], 1)
            elif self.join == "add":
                x = x + self.lateral[k](features[k])
            x = self.up[k](x)
        return self.head(x)


def width_like(join: str, other: str, width: int) -> int:
    """The width at which a net with one join has about as many weights as one with another at some width."""
    wanted = weights(ShapeNet(other, width))
    return min(range(width, 3 * width), key=lambda w: abs(weights(ShapeNet(join, w)) - wanted))


def weights(model: nn.Module) -> int:
    """How many numbers it learns."""
    return sum(p.numel() for p in model.parameters())


def scores(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Intersection over union, and the share of boundary pixels got wrong."""
    model.eval()
    with torch.no_grad():
        got, truth = model(x) > 0, y > 0.5
    edge = (F.max_pool2d(y, 3, 1, 1) + F.max_pool2d(-y, 3, 1, 1)) > 0
    union = float((got & truth).sum()) / max(1.0, float((got | truth).sum()))
    return union, float(((got != truth) & edge).sum()) / float(edge.sum())
