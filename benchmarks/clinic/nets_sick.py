"""Nets of our own with a place for a disease that `nets.py` has no room for: convolutions, recurrence, experts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class Convolutions(nn.Module):
    """3×3 convolutions in a row with an activation, a norm behind each or none, a pooled head."""

    def __init__(
        self, depth: int, norm: bool = False, width: int = 16, act: Callable[[Tensor], Tensor] = torch.relu
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) if norm else nn.Identity() for _ in range(depth))
        self.head, self.act = nn.Linear(width, 10), act

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.act(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class ConvBlock(nn.Module):
    """``x + scale·F(x)`` with two convolutions, a group norm at the head of F or none."""

    def __init__(self, width: int, norm: bool, scale: float, drop: float = 0.0, in_place: bool = False) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width) if norm else nn.Identity()
        self.act = nn.ReLU(inplace=in_place)
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.drop = nn.Dropout(drop) if drop else nn.Identity()
        self.scale, self.in_place = scale, in_place

    def forward(self, x: Tensor) -> Tensor:
        if self.in_place:
            return x + self.two(torch.relu(self.one(self.act(x))))
        branch = self.drop(self.two(self.act(self.one(self.norm(x)))))
        return x + (branch if self.scale == 1 else self.scale * branch)


class ConvResidual(nn.Module):
    """A stem, blocks in a row, a pooled head."""

    def __init__(
        self, blocks: int, norm: bool = True, scale: float = 1.0, width: int = 16, drop: float = 0.0, **more: bool
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.blocks = nn.Sequential(*[ConvBlock(width, norm, scale, drop, **more) for _ in range(blocks)])
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Stack(nn.Module):
    """Recurrent layers on each other, with a skip around each or none; the last state is classified."""

    def __init__(
        self, kind: str, depth: int, skips: bool = False, classes: int = 4, vocabulary: int = 64, width: int = 32
    ) -> None:
        super().__init__()
        self.embed, self.head, self.skips = nn.Embedding(vocabulary, width), nn.Linear(width, classes), skips
        self.cells = nn.ModuleList(getattr(nn, kind)(width, width, batch_first=True) for _ in range(depth))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for cell in self.cells:
            y = cell(x)[0]
            x = x + y if self.skips else y
        return self.head(x[:, -1])


class PostNorm(nn.Module):
    """LN(x + gain·F(x)), F with an activation of one's choice, or the clean form x + F(LN(x))."""

    def __init__(
        self, blocks: int, gain: float, act: Callable[[Tensor], Tensor] = torch.relu, pre: bool = False, width: int = 64
    ) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 4)
        self.ups = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.downs = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.gain, self.act, self.pre = gain, act, pre

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for up, down, norm in zip(self.ups, self.downs, self.norms, strict=True):
            branch = down(self.act(up(norm(x) if self.pre else x)))
            branch = branch if self.gain == 1 else self.gain * branch
            x = x + branch if self.pre else norm(x + branch)
        return self.head(x)


class Shortcuts(nn.Module):
    """Blocks whose shortcut goes through a module: a weight, a dropout, a factor."""

    def __init__(self, blocks: int, shortcut: Callable[[], nn.Module], width: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 4)
        self.shortcuts = nn.ModuleList(shortcut() for _ in range(blocks))
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )
        for branch in self.branches:
            nn.init.normal_(branch[3].weight, std=0.001)  # type: ignore[index, arg-type]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for shortcut, branch in zip(self.shortcuts, self.branches, strict=True):
            x = shortcut(x) + branch(x)
        return self.head(x)


class Times(nn.Module):
    """A factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class Summing(nn.Module):
    """Graph convolutions that add up their neighbours, with a skip around each; the mean in place of the sum cures."""

    adjacency: Tensor

    def __init__(self, depth: int, mean: bool = False, width: int = 32, nodes: int = 60) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        a = (torch.rand(nodes, nodes, generator=g) < 0.2).float()
        a = ((a + a.T) > 0).float().fill_diagonal_(1)
        self.register_buffer("adjacency", a / a.sum(1, keepdim=True) if mean else a)
        self.stem, self.head = nn.Linear(16, width), nn.Linear(width, 4)
        self.convs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for conv in self.convs:
            h = h + torch.relu(conv(self.adjacency @ h))
        return self.head(h)


class Routed(nn.Module):
    """Four experts a block, of which the router picks one (times its probability), with a skip around them."""

    def __init__(self, blocks: int = 3, bias: float = 0.0, width: int = 64) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 4)
        self.gates = nn.ModuleList(nn.Linear(width, 4) for _ in range(blocks))
        for gate in self.gates:
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]
            gate.bias.data[0] = bias  # type: ignore[union-attr, index]
        self.experts = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for _ in range(4))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for gate, experts in zip(self.gates, self.experts, strict=True):
            p = gate(x).softmax(-1)
            picked = F.one_hot(p.argmax(-1), 4) * p
            x = x + torch.stack([picked[:, i : i + 1] * e(x) for i, e in enumerate(experts)]).sum(0)  # type: ignore[arg-type]
        return self.head(x)


class Severed(nn.Module):
    """A body and a head, with something between them that lets no gradient through."""

    def __init__(self, body: nn.Module, head: nn.Module, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.head, self.between = body, head, between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.body(x)))


class Unrecorded(nn.Module):
    """A stem that runs under no_grad, as features do that somebody meant to train later."""

    def __init__(self, without: bool = True, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head, self.without = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)), without

    def forward(self, x: Tensor) -> Tensor:
        if not self.without:
            return self.head(self.stem(x))
        with torch.no_grad():
            h = self.stem(x)
        return self.head(h)


class Checkpointed(nn.Module):
    """Blocks under a checkpoint of the reentrant kind: where its inputs ask for no gradient, nor do its weights."""

    def __init__(self, reentrant: bool, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.second = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.second(checkpoint(self.first, x, use_reentrant=self.reentrant))


class Masked(nn.Module):
    """Self-attention with a padding mask in which a whole row may be masked."""

    def __init__(self, width: int = 32, vocabulary: int = 64, guarded: bool = False) -> None:
        super().__init__()
        self.embed, self.head, self.guarded = nn.Embedding(vocabulary, width), nn.Linear(width, 4), guarded
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        padding = ids == 0
        if self.guarded:
            padding = padding & ~padding.all(1, keepdim=True)
        x = self.embed(ids)
        for qkv, norm in zip(self.qkv, self.norms, strict=True):
            q, k, v = qkv(norm(x)).chunk(3, -1)
            scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(padding[:, None], -torch.inf)
            x = x + scores.softmax(-1) @ v
        return self.head(x.mean(1))


class Spare(nn.Module):
    """Two towers, of which the second is computed and then the first one's result is used twice."""

    def __init__(self, mended: bool = False, width: int = 64) -> None:
        super().__init__()

        def tower() -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())

        self.one, self.two, self.head, self.mended = tower(), tower(), nn.Linear(2 * width, 4), mended

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.one(x), self.two(x)
        return self.head(torch.cat([one, two if self.mended else one], 1))
