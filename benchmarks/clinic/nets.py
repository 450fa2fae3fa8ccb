"""Small nets of our own that can be made sick in one place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Plain(nn.Module):
    """Linear layers with an activation, and nothing else."""

    def __init__(self, depth: int, act: Callable[[Tensor], Tensor] = torch.relu, width: int = 64, out: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head, self.act = nn.Linear(width, out), act

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.act(layer(x))
        return self.head(x)


class Block(nn.Module):
    """``keep``·x + ``scale``·F(x), F with a norm at its head or without."""

    def __init__(self, width: int, scale: float = 1.0, norm: bool = True, keep: float = 1.0, cut: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.scale, self.keep, self.cut = scale, keep, cut

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        hidden = torch.relu(self.up(h))
        branch = self.down(h if self.cut else hidden)
        # A factor of one is no op: who scales nothing writes no product.
        return (x if self.keep == 1 else self.keep * x) + (branch if self.scale == 1 else self.scale * branch)


class Residual(nn.Module):
    """A stem, blocks in a row, a head."""

    def __init__(self, blocks: int, width: int = 64, out: int = 4, **block: object) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.blocks = nn.Sequential(*[Block(width, **block) for _ in range(blocks)])  # type: ignore[arg-type]
        self.last, self.head = nn.LayerNorm(width), nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(x))))


class Scaled(nn.Module):
    """Blocks whose branch has a learned (or frozen) scale of its own, as LayerScale and ReZero have."""

    def __init__(self, blocks: int, start: float, frozen: bool = False, width: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 4)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.gamma = nn.ParameterList(
            nn.Parameter(torch.full((width,), start), requires_grad=not frozen) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch, gamma in zip(self.branches, self.gamma, strict=True):
            x = x + gamma * branch(x)
        return self.head(x)


class Tower(nn.Module):
    """Residual in residual: outer blocks of three inner ones, each with the same scale on its branch."""

    def __init__(self, outer: int, scale: float, width: int = 16) -> None:
        super().__init__()
        self.stem, self.head, self.scale = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 1, 3, padding=1), scale
        self.convs = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
                for _ in range(3)
            )
            for _ in range(outer)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.convs:
            y = x
            for inner in block:  # type: ignore[union-attr]
                y = y + self.scale * inner(y)
            x = x + self.scale * y
        return self.head(x)


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))


class Transformer(nn.Module):
    """Pre-LN or Post-LN."""

    def __init__(self, depth: int, post: bool = False, width: int = 32, vocabulary: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.parts = nn.ModuleList(
            part
            for _ in range(depth)
            for part in (
                Attention(width),
                nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)),
            )
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.last, self.head, self.post = nn.LayerNorm(width), nn.Linear(width, vocabulary), post

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for part, norm in zip(self.parts, self.norms, strict=True):
            x = norm(x + part(x)) if self.post else x + part(norm(x))
        return self.head(x if self.post else self.last(x))


class UNet(nn.Module):
    """Two convolutions a level, concatenations, batch norm or none."""

    def __init__(self, levels: int = 3, norm: bool = True, width: int = 8, cut: bool = False) -> None:
        super().__init__()

        def double(a: int, b: int) -> nn.Sequential:
            one = [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b) if norm else nn.Identity(), nn.ReLU()]
            two = [nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b) if norm else nn.Identity(), nn.ReLU()]
            return nn.Sequential(*one, *two)

        sizes = [width << i for i in range(levels + 1)]
        self.stem, self.cut = double(1, width), cut
        self.down = nn.ModuleList(double(a, b) for a, b in pairwise(sizes))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(sizes))
        self.merge = nn.ModuleList(double(2 * a, a) for a in sizes[:-1])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.stem(x)]
        for down in self.down:
            kept.append(down(F.max_pool2d(kept[-1], 2)))
        y = kept.pop()
        y = y.detach() if self.cut else y
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            y = merge(torch.cat([kept.pop(), up(y)], 1))
        return self.head(y)


class Graph(nn.Module):
    """GCNII, or the plain graph convolutions that it mends."""

    adjacency: Tensor

    def __init__(self, depth: int, plain: bool = False, width: int = 32, nodes: int = 60) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        a = (torch.rand(nodes, nodes, generator=g) < 0.08).float()
        a = ((a + a.T) > 0).float().fill_diagonal_(1)
        d = a.sum(1).rsqrt()
        self.register_buffer("adjacency", d[:, None] * a * d[None])
        self.stem, self.head, self.plain = nn.Linear(16, width), nn.Linear(width, 4), plain
        self.convs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        h = start = torch.relu(self.stem(x))
        for k, conv in enumerate(self.convs, 1):
            if self.plain:
                h = torch.relu(conv(self.adjacency @ h))
                continue
            beta = 0.5 / k
            mixed = 0.9 * (self.adjacency @ h) + 0.1 * start
            h = torch.relu((1 - beta) * mixed + beta * conv(mixed))
        return self.head(h)


class Bent(nn.Module):
    """A net whose output goes through one op more."""

    def __init__(self, net: nn.Module, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.bend = net, bend

    def forward(self, *x: Tensor) -> Tensor:
        return self.bend(self.net(*x))


class Highway(nn.Module):
    """Gated blocks: g·F(x) + (1−g)·x, with a bias on the gate."""

    def __init__(self, blocks: int, bias: float, width: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 4)
        self.f = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.g = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        for gate in self.g:
            nn.init.constant_(gate.bias, bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for f, g in zip(self.f, self.g, strict=True):
            gate = torch.sigmoid(g(x))
            x = gate * torch.relu(f(x)) + (1 - gate) * x
        return self.head(x)
