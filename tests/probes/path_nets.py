"""Nets whose branches can be weighted from outside, so that brute force can switch the gradient's paths on and off.

Every branch ends in ``self.gate(k, f)``. With no weights set it is f itself, no op at all: what `path_spectrum` sees is
the plain net. With weights it is a tensor of f's value whose gradient is multiplied by w_k.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gated(nn.Module):
    """The base: `fork` is noted in the forward, `weights` are brute force's."""

    branches = 0

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[float] | None = None
        self.fork: Tensor | None = None

    def gate(self, k: int, f: Tensor) -> Tensor:
        """The branch with its gradient weighted."""
        if self.weights is None:
            return f
        w = self.weights[k]
        return w * f + (1 - w) * f.detach()

    def noted(self, x: Tensor) -> Tensor:
        """The fork; brute force keeps it safe from what is changed in place later."""
        if self.weights is None:
            return x
        self.fork = x
        return x.clone()


def linears(n: int, d: int = 5) -> nn.ModuleList:
    """A list of layers."""
    return nn.ModuleList(nn.Linear(d, d) for _ in range(n))


class Chain(Gated):
    """Residual blocks as torchvision writes them: norms in training mode, everything in place, a projection."""

    branches = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        widths = [(4, 4, 1), (4, 6, 2), (6, 6, 1), (6, 6, 1)]
        self.a = nn.ModuleList(nn.Conv2d(i, o, 3, s, 1) for i, o, s in widths)
        self.na = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in widths)
        self.b = nn.ModuleList(nn.Conv2d(o, o, 3, 1, 1) for _, o, _ in widths)
        self.nb = nn.ModuleList(nn.BatchNorm2d(o) for _, o, _ in widths)
        self.short = nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(F.relu(self.stem(x), inplace=True))
        for k in range(4):
            y = F.relu(self.na[k](self.a[k](x)), inplace=True)
            y = self.gate(k, self.nb[k](self.b[k](y)))
            y += self.short(x) if k == 1 else x
            x = F.relu(y, inplace=True)
        return x.mean((2, 3))


class Nested(Gated):
    """A long skip around three short ones: a path through the long branch enters it, and then up to three more."""

    branches = 5

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 5)
        self.f = linears(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(self.stem(x))
        z = torch.tanh(self.f[0](x))
        for k in range(1, 4):
            z = z + self.gate(k, torch.tanh(self.f[k](z)))
        y = x + self.gate(0, z * 0.5)
        return y + self.gate(4, torch.tanh(self.f[4](y)))


class Side(Gated):
    """Branches side by side from one fork, written in three ways; and a branch whose result is used elsewhere too."""

    branches = 6

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 5)
        self.f = linears(6)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(self.stem(x))
        x = x + self.gate(0, torch.tanh(self.f[0](x))) + self.gate(1, torch.sigmoid(self.f[1](x)))
        x = torch.stack([x, self.gate(2, torch.tanh(self.f[2](x))), self.gate(3, torch.tanh(self.f[3](x)))]).sum(0)
        f = torch.tanh(self.f[4](x))
        x = x - self.gate(4, f)
        x = torch.lerp(x, self.gate(5, torch.tanh(self.f[5](x))), 0.3)
        return self.head(torch.cat([x, f], -1))


class Tied(Gated):
    """One block called three times; a learned scale inside the merge's own call; alpha."""

    branches = 5

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.f, self.g, self.h = (nn.Linear(5, 5) for _ in range(4))
        self.scale = nn.Parameter(torch.full((5,), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(self.stem(x))
        for k in range(3):
            x = x + self.gate(k, torch.tanh(self.f(x)))
        x = torch.addcmul(x, self.scale, self.gate(3, torch.tanh(self.g(x))))
        return torch.add(x, self.gate(4, torch.tanh(self.h(x))), alpha=-0.4)


class Products(Gated):
    """The gradient splits where two towers, each with skips, are multiplied, and inside a fused product."""

    branches = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 5)
        self.f = linears(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(self.stem(x))
        a, b = self.f[4](x), self.f[5](x)
        a = a + self.gate(0, torch.tanh(self.f[0](a)))
        b = b + self.gate(1, torch.tanh(self.f[1](b)))
        x = x + self.gate(2, a * torch.sigmoid(b))
        return x + self.gate(3, torch.tanh(self.f[3](x)))


class Fused(Gated):
    """The branch exists only inside ``baddbmm``; both its factors come from the fork."""

    branches = 1

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.q, self.k = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(self.stem(x))
        q, k = self.q(x), torch.tanh(self.k(x))
        if self.weights is None:
            return torch.baddbmm(x, q, k)
        return x + self.gate(0, torch.bmm(q, k))


class Decoder(Gated):
    """A concat skip around residual blocks: its paths are not told apart, those inside it are."""

    branches = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(5, 5)
        self.f = linears(4)
        self.up = nn.Linear(10, 5)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.noted(self.stem(x))
        y = x + self.gate(0, torch.tanh(self.f[0](x)))
        z = torch.relu(self.f[3](y)) + bias
        z = z + self.gate(1, torch.tanh(self.f[1](z)))
        u = self.up(torch.cat([z, y], -1))
        return u + self.gate(2, torch.tanh(self.f[2](u)))


class Transformer(Gated):
    """Pre-LN blocks, attention on one tensor three times."""

    branches = 4

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.norm = nn.ModuleList(nn.LayerNorm(8) for _ in range(4))
        self.attention = nn.ModuleList(nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.noted(self.embed(ids))
        for k in range(2):
            n = self.norm[2 * k](x)
            x = x + self.gate(2 * k, self.attention[k](n, n, n, need_weights=False)[0])
            x = x + self.gate(2 * k + 1, self.mlp[k](self.norm[2 * k + 1](x)))
        return x


class InPlace(Gated):
    """``x += F(x)``, and a branch that is a view and written to."""

    branches = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.f = linears(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.noted(self.stem(x) * 1.0)
        x += self.gate(0, torch.tanh(self.f[0](x * 1.0)))
        y = (self.gate(1, torch.sin(self.f[1](x)) * 2)).view(-1, 2, 3)
        y += x.view(-1, 2, 3)
        x = y.view(-1, 6)
        y = self.gate(2, torch.sin(self.f[2](x)) * 2)
        y.add_(x)  # what it returns is not looked at
        return y


class Drawn(Gated):
    """Blocks in series, side by side and inside one another, drawn at random; at most ten branches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.plan: list = []
        self.branches = 0
        self.stem = nn.Linear(5, 5)
        while self.branches < 3 or (self.branches < 8 and rng.random() < 0.6):
            self.plan.append(self._draw(rng, 0))
        self.f = linears(self.branches)

    def _draw(self, rng: random.Random, depth: int) -> list:
        """One merge: per branch its number and the merges inside it."""
        out = []
        for _ in range(1 + (rng.random() < 0.3)):
            if self.branches == 10:
                break
            k, inside = self.branches, []
            self.branches += 1
            while depth < 2 and self.branches < 9 and rng.random() < 0.4:
                inside.append(self._draw(rng, depth + 1))
            out.append((k, inside))
        return out

    def _run(self, x: Tensor, merges: list) -> Tensor:
        for merge in merges:
            y = x
            for k, inside in merge:
                y = y + self.gate(k, self._run(torch.tanh(self.f[k](x)), inside) * 0.8)
            x = y
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self.noted(self.stem(x)), self.plan)


def example(name: str) -> tuple[Gated, tuple[Tensor, ...]]:
    """A net in float64 with weights from a fixed seed, in training mode, and inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        kind: type[Gated] = globals()[name]
        x = torch.randn(3, 5)
        inputs: dict[str, tuple[Tensor, ...]] = {
            "Chain": (torch.randn(3, 2, 8, 8),),
            "Fused": (torch.randn(2, 4, 4),),
            "Decoder": (x, torch.randn(5)),
            "InPlace": (torch.randn(3, 6),),
            "Transformer": (torch.randint(0, 7, (2, 4)),),
        }
        given = inputs.get(name, (x,))
        model = kind().double()
        return model, tuple(t.double() if t.is_floating_point() else t for t in given)
