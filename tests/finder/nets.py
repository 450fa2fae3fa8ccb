"""Small nets with skips that are known by construction, shared by the tests of finder and ledger."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Identity(nn.Module):
    """y = x + F(x)."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.b(torch.relu(self.a(x))))


class Projection(nn.Module):
    """y = P(x) + F(x), with norms, stride and everything in place, as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.a, self.na = nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.b, self.nb = nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6)
        self.short = nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x), inplace=True)
        y = F.relu(self.na(self.a(x)), inplace=True)
        y = self.nb(self.b(y))
        y += self.short(x)
        return F.relu(y, inplace=True).mean((2, 3))


class Concat(nn.Module):
    """y = cat(x, F(x))."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([x, torch.tanh(self.a(x))], 1))


class Dense(nn.Module):
    """m_k = cat(m_{k-1}, F_k(m_{k-1})), as torchvision's DenseNet writes it: a growing list."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(4 + 3 * k, 3, 3, padding=1) for k in range(layers))
        self.head = nn.Conv2d(4 + 3 * layers, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(torch.tanh(layer(torch.cat(features, 1))))
        return self.head(torch.cat(features, 1))


class UNet(nn.Module):
    """Two long concats around a bottom without skips of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.d0, self.d1, self.mid = nn.Conv2d(2, 4, 3, 1, 1), nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.u1, self.u0 = nn.Conv2d(12, 4, 3, 1, 1), nn.Conv2d(8, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.d0(x))
        b = torch.relu(self.d1(a))
        c = torch.relu(self.mid(b))
        u = torch.relu(self.u1(torch.cat([F.interpolate(c, scale_factor=2), b], 1)))
        return self.u0(torch.cat([F.interpolate(u, scale_factor=2), a], 1))


class Parallel(nn.Module):
    """x + A(n) + M(n), n = norm(x): one skip with two branches."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(d, d), nn.LayerNorm(d)
        self.a, self.m = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n = self.norm(x)
        return x + torch.tanh(self.a(n)) + torch.tanh(self.m(n))


class Highway(nn.Module):
    """g·F(x) + (1−g)·x."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.stem, self.f, self.g = (nn.Linear(d, d) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        g = torch.sigmoid(self.g(x))
        return g * torch.relu(self.f(x)) + (1 - g) * x


class SegNet(nn.Module):
    """Pooling indices carried to an unpooling."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mid, self.dec = (nn.Conv2d(c, 4, 3, padding=1) for c in (2, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x, indices = F.max_pool2d(self.enc(x), 2, return_indices=True)
        return self.dec(F.max_unpool2d(torch.relu(self.mid(x)), indices, [2, 2]))


class Split(nn.Module):
    """cat(x₁, F(x₂)), (x₁, x₂) = x split in two: ShuffleNet's unit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.f = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, dim=1)
        return torch.cat((left, torch.relu(self.f(right))), dim=1)


class Nested(nn.Module):
    """A long skip over two short ones, whose fork has three consumers (a regrouped sum would show)."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = x + torch.tanh(self.a(x))
        z = torch.relu(y + torch.tanh(self.b(y)))
        return x + torch.tanh(self.c(z))


class InPlaceShortcut(nn.Module):
    """x += F(x): the shortcut is the tensor that is changed."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.stem, self.f = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.stem(x)) * 1.0
        x += torch.tanh(self.f(x * 2))
        return x * 3


class Reused(nn.Module):
    """One block called three times."""

    def __init__(self, d: int = 6) -> None:
        super().__init__()
        self.stem = nn.Linear(d, d)
        self.block = _Residual(d)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.block(x)
        return x


class _Residual(nn.Module):
    def __init__(self, d: int) -> None:
        super().__init__()
        self.f = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.f(x))


class Encoder(nn.Module):
    """PyTorch's own transformer layers: attention whose query, key and value are one tensor."""

    def __init__(self, norm_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=norm_first, norm_first=norm_first)
        self.layers = nn.ModuleList([layer])

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return x


class PostEncoder(Encoder):
    """The same with the norms after the adds: attention takes the fork itself, three times."""

    def __init__(self) -> None:
        super().__init__(norm_first=False)


FLAT, IMAGE, SEQUENCE = (3, 6), (2, 2, 8, 8), (2, 4, 5)
NETS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "identity": (Identity, FLAT),
    "projection": (Projection, IMAGE),
    "concat": (Concat, IMAGE),
    "dense": (Dense, IMAGE),
    "unet": (UNet, IMAGE),
    "parallel": (Parallel, FLAT),
    "highway": (Highway, FLAT),
    "split": (Split, IMAGE),
    "nested": (Nested, FLAT),
    "in place": (InPlaceShortcut, FLAT),
    "reused": (Reused, FLAT),
    "encoder": (Encoder, SEQUENCE),
    "post encoder": (PostEncoder, SEQUENCE),
    "segnet": (SegNet, IMAGE),
}


def made(name: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A net and an input for it."""
    torch.manual_seed(seed)
    kind, shape = NETS[name]
    return kind().to(dtype), torch.randn(shape, dtype=dtype)
