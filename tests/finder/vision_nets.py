"""Vision, audio and 1-D nets that no library at hand has, written out small: the table's ``own:`` rows."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth


def conv_bn_relu(a: int, b: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class SegNet(nn.Module):
    """Badrinarayanan et al. 2017 with VGG-16's 13 convolutions: max-pool indices go to the decoder's unpoolings."""

    depths, widths = (2, 2, 3, 3, 3), (4, 6, 8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = 3
        for depth, width in zip(self.depths, self.widths, strict=True):
            chain = [before] + [width] * depth
            self.down.append(nn.Sequential(*(conv_bn_relu(a, b) for a, b in pairwise(chain))))
            back = [width] * depth + [before]
            self.up.insert(0, nn.Sequential(*(conv_bn_relu(a, b) for a, b in pairwise(back))))
            before = width
        self.middle: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for stage in self.down:
            x, indices = F.max_pool2d(stage(x), 2, return_indices=True)
            kept.append(indices)
        x = self.middle(x)
        for stage in self.up:
            x = stage(F.max_unpool2d(x, kept.pop(), [2, 2]))
        return x


class SegNetWithMiddle(SegNet):
    """The same with a convolution between the last pooling and the first unpooling."""

    depths, widths = (2, 2, 3), (4, 6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.middle = conv_bn_relu(8, 8)


class WaveNet(nn.Module):
    """van den Oord et al. 2016: gated dilated convolutions, a residual path and a sum of skip outputs."""

    def __init__(self, layers: int = 4, d: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, d, 1)
        self.filter = nn.ModuleList(nn.Conv1d(d, d, 2, dilation=2**k) for k in range(layers))
        self.gate = nn.ModuleList(nn.Conv1d(d, d, 2, dilation=2**k) for k in range(layers))
        self.skip = nn.ModuleList(nn.Conv1d(d, 2 * d, 1) for _ in range(layers))
        self.residual = nn.ModuleList(nn.Conv1d(d, d, 1) for _ in range(layers - 1))  # the last one has no use
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(2 * d, d, 1), nn.ReLU(), nn.Conv1d(d, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        skips = []
        for k, (filters, gate, skip) in enumerate(zip(self.filter, self.gate, self.skip, strict=True)):
            past = F.pad(x, (2**k, 0))
            z = torch.tanh(filters(past)) * torch.sigmoid(gate(past))
            skips.append(skip(z))
            if k < len(self.residual):
                x = x + self.residual[k](z)
        return self.head(sum(skips))


class ConvTasNet(nn.Module):
    """Luo and Mesgarani 2019: encoder, a temporal convolutional net that makes a mask, decoder."""

    def __init__(self, blocks: int = 4, d: int = 6) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, d, 4, 2, 1), nn.ConvTranspose1d(d, 1, 4, 2, 1)
        self.bottleneck = nn.Sequential(nn.GroupNorm(1, d), nn.Conv1d(d, d, 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(d, 2 * d, 1), nn.PReLU(), nn.GroupNorm(1, 2 * d),
                nn.Conv1d(2 * d, 2 * d, 3, padding=2**k, dilation=2**k, groups=2 * d), nn.PReLU(),
                nn.GroupNorm(1, 2 * d),
            )
            for k in range(blocks)
        )  # fmt: skip
        self.residual = nn.ModuleList(nn.Conv1d(2 * d, d, 1) for _ in range(blocks - 1))
        self.skip = nn.ModuleList(nn.Conv1d(2 * d, d, 1) for _ in range(blocks))
        self.mask = nn.Sequential(nn.PReLU(), nn.Conv1d(d, d, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        w = self.encoder(x)
        x = self.bottleneck(w)
        total: Tensor | float = 0.0
        for k, block in enumerate(self.blocks):
            y = block(x)
            total = total + self.skip[k](y)
            if k < len(self.residual):
                x = x + self.residual[k](y)
        return self.decoder(w * self.mask(total))


class TCN(nn.Module):
    """Bai et al. 2018: causal dilated convolutions in residual blocks."""

    class Block(nn.Module):
        def __init__(self, a: int, b: int, dilation: int) -> None:
            super().__init__()
            self.pad = 2 * dilation
            self.conv1, self.conv2 = nn.Conv1d(a, b, 3, dilation=dilation), nn.Conv1d(b, b, 3, dilation=dilation)
            self.drop = nn.Dropout(0.2)
            self.downsample = nn.Conv1d(a, b, 1) if a != b else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y = self.drop(torch.relu(self.conv1(F.pad(x, (self.pad, 0)))))
            y = self.drop(torch.relu(self.conv2(F.pad(y, (self.pad, 0)))))
            return torch.relu(y + self.downsample(x))

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(self.Block(4, 8, 1), self.Block(8, 8, 2), self.Block(8, 8, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class BasicBlock1d(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(a, b, 3, stride, 1), nn.BatchNorm1d(b)
        self.conv2, self.bn2 = nn.Conv1d(b, b, 3, 1, 1), nn.BatchNorm1d(b)
        plain = stride == 1 and a == b
        self.shortcut = nn.Identity() if plain else nn.Sequential(nn.Conv1d(a, b, 1, stride), nn.BatchNorm1d(b))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResNet1d(nn.Module):
    """A residual net over time, 2+2+2 blocks."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((4, 4, 1), (4, 4, 1), (4, 8, 2), (8, 8, 1), (8, 16, 2), (16, 16, 1))
        self.stem = nn.Conv1d(2, 4, 7, 2, 3)
        self.blocks = nn.Sequential(*(BasicBlock1d(a, b, s) for a, b, s in widths))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x))).mean(2))


class Demucs(nn.Module):
    """Défossez et al. 2019: a 1-D U-Net with a bidirectional LSTM at the bottom; skips are trimmed and added."""

    def __init__(self, depth: int = 3, d: int = 4) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = 2
        for k in range(depth):
            width = d * 2**k
            self.encoder.append(
                nn.Sequential(nn.Conv1d(before, width, 8, 4), nn.ReLU(), nn.Conv1d(width, 2 * width, 1), nn.GLU(1))
            )
            last = [nn.ReLU()] if k else []
            self.decoder.insert(
                0,
                nn.Sequential(
                    nn.Conv1d(width, 2 * width, 3, padding=1), nn.GLU(1), nn.ConvTranspose1d(width, before, 8, 4), *last
                ),
            )
            before = width
        self.lstm, self.linear = nn.LSTM(before, before, 2, bidirectional=True), nn.Linear(2 * before, before)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for layer in self.encoder:
            x = layer(x)
            kept.append(x)
        x = self.linear(self.lstm(x.permute(2, 0, 1))[0]).permute(1, 2, 0)
        for layer in self.decoder:
            skip = kept.pop()
            extra = skip.shape[-1] - x.shape[-1]
            if extra:
                skip = skip[..., extra // 2 : extra // 2 + x.shape[-1]]
            x = layer(x + skip)
        return x


class HighwayNet(nn.Module):
    """Srivastava et al. 2015: g·F(x) + (1 − g)·x, five layers."""

    def __init__(self, depth: int = 5, d: int = 8) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, d), nn.Linear(d, 2)
        self.plain = nn.ModuleList(nn.Linear(d, d) for _ in range(depth))
        self.gate = nn.ModuleList(nn.Linear(d, d) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for plain, gate in zip(self.plain, self.gate, strict=True):
            g = torch.sigmoid(gate(x))
            x = g * torch.relu(plain(x)) + (1 - g) * x
        return self.head(x)


class RevNet(nn.Module):
    """Gomez et al. 2017: reversible blocks y1 = x1 + F(x2), y2 = x2 + G(y1)."""

    def __init__(self, blocks: int = 3, d: int = 4) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 2 * d, 3, 1, 1), nn.Linear(2 * d, 2)
        self.f = nn.ModuleList(conv_bn_relu(d, d) for _ in range(blocks))
        self.g = nn.ModuleList(conv_bn_relu(d, d) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, dim=1)
        for f, g in zip(self.f, self.g, strict=True):
            a = a + f(b)
            b = b + g(a)
        return self.head(torch.cat((a, b), dim=1).mean((2, 3)))


class FractalNet(nn.Module):
    """Larsson et al. 2017: a fractal block of three columns, joined by means."""

    class Fractal(nn.Module):
        def __init__(self, columns: int, a: int, b: int) -> None:
            super().__init__()
            self.short = conv_bn_relu(a, b)
            deep = columns > 1
            self.first = FractalNet.Fractal(columns - 1, a, b) if deep else None
            self.second = FractalNet.Fractal(columns - 1, b, b) if deep else None

        def forward(self, x: Tensor) -> Tensor:
            if self.first is None or self.second is None:
                return self.short(x)
            return (self.short(x) + self.second(self.first(x))) / 2

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, 4)
        self.block1, self.block2 = self.Fractal(3, 4, 4), self.Fractal(3, 4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.block2(F.max_pool2d(self.block1(self.stem(x)), 2)).mean((2, 3))


class PreActBlock(nn.Module):
    """He et al. 2016b: norm and ReLU first; a projection takes the pre-activation."""

    def __init__(self, a: int, b: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(a), nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(b), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(a, b, 1, stride, bias=False) if stride > 1 or a != b else None

    def forward(self, x: Tensor) -> Tensor:
        n = torch.relu(self.bn1(x))
        short = x if self.shortcut is None else self.shortcut(n)
        return short + self.conv2(torch.relu(self.bn2(self.conv1(n))))


class StackedHourglass(nn.Module):
    """Newell et al. 2016: hourglasses in a row, each with intermediate predictions fed back into the trunk."""

    class Hourglass(nn.Module):
        def __init__(self, depth: int, d: int) -> None:
            super().__init__()
            self.up, self.low1, self.low3 = PreActBlock(d, d), PreActBlock(d, d), PreActBlock(d, d)
            self.low2 = StackedHourglass.Hourglass(depth - 1, d) if depth > 1 else PreActBlock(d, d)

        def forward(self, x: Tensor) -> Tensor:
            up = self.up(x)
            low = self.low3(self.low2(self.low1(F.max_pool2d(x, 2))))
            return up + F.interpolate(low, scale_factor=2)

    def __init__(self, stacks: int = 2, d: int = 8) -> None:
        super().__init__()
        self.stem, self.widen = conv_bn_relu(3, d // 2, 2), PreActBlock(d // 2, d)
        self.hourglass = nn.ModuleList(self.Hourglass(2, d) for _ in range(stacks))
        self.residual = nn.ModuleList(PreActBlock(d, d) for _ in range(stacks))
        self.feature = nn.ModuleList(conv_bn_relu(d, d) for _ in range(stacks))
        self.predict = nn.ModuleList(nn.Conv2d(d, 5, 1) for _ in range(stacks))
        self.merge_feature = nn.ModuleList(nn.Conv2d(d, d, 1) for _ in range(stacks - 1))
        self.merge_prediction = nn.ModuleList(nn.Conv2d(5, d, 1) for _ in range(stacks - 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.widen(self.stem(x))
        predictions = []
        for k, hourglass in enumerate(self.hourglass):
            feature = self.feature[k](self.residual[k](hourglass(x)))
            predictions.append(self.predict[k](feature))
            if k < len(self.merge_feature):
                x = x + self.merge_prediction[k](predictions[-1]) + self.merge_feature[k](feature)
        return predictions


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what lies above and left of the centre."""

    def __init__(self, a: int, b: int, kernel: int | tuple[int, int], *, vertical: bool, centre: bool) -> None:
        high, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__(a, b, (high, wide), padding=(high // 2, wide // 2))
        mask = torch.zeros(high, wide)
        mask[: high // 2] = 1.0 if vertical else 0.0
        mask[high // 2, : wide // 2 + centre] = 0.0 if vertical else 1.0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)  # type: ignore[operator]


def gated(x: Tensor) -> Tensor:
    f, g = x.chunk(2, dim=1)
    return torch.tanh(f) * torch.sigmoid(g)


class GatedPixelCNN(nn.Module):
    """van den Oord et al. 2016: a vertical stack feeds a horizontal one, which has residuals."""

    def __init__(self, layers: int = 3, d: int = 4) -> None:
        super().__init__()
        self.vertical_in = MaskedConv2d(1, d, 7, vertical=True, centre=False)
        self.horizontal_in = MaskedConv2d(1, d, (1, 7), vertical=False, centre=False)
        each = range(layers)
        self.vertical = nn.ModuleList(MaskedConv2d(d, 2 * d, 3, vertical=True, centre=False) for _ in each)
        self.horizontal = nn.ModuleList(MaskedConv2d(d, 2 * d, (1, 3), vertical=False, centre=True) for _ in each)
        self.down = nn.ModuleList(nn.Conv2d(2 * d, 2 * d, 1) for _ in each)
        self.out = nn.ModuleList(nn.Conv2d(d, d, 1) for _ in each)
        self.head = nn.Conv2d(d, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        v, h = self.vertical_in(x), self.horizontal_in(x)
        for vertical, horizontal, down, out in zip(self.vertical, self.horizontal, self.down, self.out, strict=True):
            u = vertical(v)
            h = h + out(gated(horizontal(h) + down(u)))
            v = gated(u)
        return self.head(h)


class Siamese(nn.Module):
    """Bromley et al. 1993: one encoder for two inputs, here of two residual blocks."""

    class Block(nn.Module):
        def __init__(self, d: int) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(torch.relu(self.a(x)))

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, d), self.Block(d), self.Block(d))
        self.head = nn.Linear(d, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head((self.encoder(left) - self.encoder(right)).abs())


class PreActResNet(nn.Module):
    """He et al. 2016b, 2+2+2 blocks."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((4, 4, 1), (4, 4, 1), (4, 8, 2), (8, 8, 1), (8, 16, 2), (16, 16, 1))
        self.stem, self.norm = nn.Conv2d(3, 4, 3, 1, 1), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*(PreActBlock(a, b, s) for a, b, s in widths))
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))


class StochasticDepthResNet(nn.Module):
    """Huang et al. 2016: residual blocks whose branch is dropped at random, the deeper the more often."""

    def __init__(self, depth: int = 4, d: int = 4) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, d)
        self.convs = nn.ModuleList(nn.Sequential(conv_bn_relu(d, d), nn.Conv2d(d, d, 3, 1, 1)) for _ in range(depth))
        self.drop = nn.ModuleList(StochasticDepth(0.5 * (k + 1) / depth, "batch") for k in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for convs, drop in zip(self.convs, self.drop, strict=True):
            x = torch.relu(x + drop(convs(x)))
        return x.mean((2, 3))
