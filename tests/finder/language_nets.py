"""Sequence nets written out from their papers, for the reference table ``zoo_language.tsv``; no library ships them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D, HEADS, LENGTH = 32, 4, 8


class Attention(nn.Module):
    """Multi-head self-attention; ``wide`` adds Primer's depthwise convolution of q, k and v."""

    def __init__(self, d: int = D, wide: bool = False, scale_heads: bool = False) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.conv = nn.Conv1d(3 * d, 3 * d, 3, padding=1, groups=3 * d) if wide else nn.Identity()
        self.heads = nn.Parameter(torch.ones(HEADS, 1, 1)) if scale_heads else None

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        qkv = self.conv(self.qkv(x).transpose(1, 2)).transpose(1, 2)
        q, k, v = qkv.view(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4).unbind()
        y = F.scaled_dot_product_attention(q, k, v)
        y = y if self.heads is None else y * self.heads
        return self.out(y.transpose(1, 2).reshape(b, n, d))


class SquaredRelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


def mlp(d: int = D, act: type[nn.Module] = nn.GELU, norm: bool = False) -> nn.Sequential:
    """Two linear layers; ``norm`` puts NormFormer's norm between them."""
    return nn.Sequential(nn.Linear(d, 2 * d), act(), *([nn.LayerNorm(2 * d)] if norm else []), nn.Linear(2 * d, d))


class Stack(nn.Module):
    """A linear embedding, then sublayers joined to the trunk by ``join``; subclasses say how."""

    def __init__(self, sublayers: list[nn.Module], embed: bool = True) -> None:
        super().__init__()
        self.embed, self.sublayers = nn.Linear(D, D) if embed else nn.Identity(), nn.ModuleList(sublayers)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in sublayers)

    def join(self, x: Tensor, k: int) -> Tensor:
        return x + self.sublayers[k](self.norms[k](x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for k in range(len(self.sublayers)):
            x = self.join(x, k)
        return x


def pairs(n: int, **kw: bool) -> list[nn.Module]:
    """Attention and MLP, n times."""
    return [m for _ in range(n) for m in (Attention(**kw), mlp())]


class ReZero(Stack):
    """x + α·F(x), α learned, no norm (Bachlechner et al. 2020)."""

    def __init__(self, n: int = 4) -> None:
        super().__init__(pairs(n))
        self.alpha = nn.Parameter(torch.zeros(2 * n))

    def join(self, x: Tensor, k: int) -> Tensor:
        return x + self.alpha[k] * self.sublayers[k](x)


class DeepNet(Stack):
    """norm(α·x + F(x)), α = (2n)^¼ a constant (Wang et al. 2022)."""

    def __init__(self, n: int = 4) -> None:
        super().__init__(pairs(n))
        self.alpha = (2 * n) ** 0.25

    def join(self, x: Tensor, k: int) -> Tensor:
        return self.norms[k](x * self.alpha + self.sublayers[k](x))


class NormFormer(Stack):
    """Scaled heads, a norm after attention and one inside the MLP (Shleifer et al. 2021)."""

    def __init__(self, n: int = 4) -> None:
        attention = lambda: nn.Sequential(Attention(scale_heads=True), nn.LayerNorm(D))  # noqa: E731
        super().__init__([m for _ in range(n) for m in (attention(), mlp(norm=True))])


class Primer(Stack):
    """Squared ReLU and a depthwise convolution of q, k and v (So et al. 2021)."""

    def __init__(self, n: int = 4) -> None:
        super().__init__([m for _ in range(n) for m in (Attention(wide=True), mlp(act=SquaredRelu))])


class HighwayTransformer(Stack):
    """g·F(x) + (1−g)·x at every sublayer, g = σ(W x) (Chai et al. 2020)."""

    def __init__(self, n: int = 4) -> None:
        super().__init__(pairs(n))
        self.gates = nn.ModuleList(nn.Linear(D, D) for _ in range(2 * n))

    def join(self, x: Tensor, k: int) -> Tensor:
        g = torch.sigmoid(self.gates[k](x))
        return g * self.sublayers[k](self.norms[k](x)) + (1 - g) * x


class LambdaTransformer(Stack):
    """λ·F(x) + (1−λ)·x with a learned vector λ: no gate, a scaled shortcut."""

    def __init__(self, n: int = 4) -> None:
        super().__init__(pairs(n))
        self.mix = nn.Parameter(torch.zeros(2 * n, D))

    def join(self, x: Tensor, k: int) -> Tensor:
        lam = torch.sigmoid(self.mix[k])
        return lam * self.sublayers[k](self.norms[k](x)) + (1 - lam) * x


class ConvModule(nn.Module):
    """Conformer's: pointwise, GLU, depthwise, norm, SiLU, pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(D, 2 * D, 1), nn.Conv1d(D, D, 3, padding=1, groups=D), nn.Conv1d(D, D, 1)
        self.norm = nn.BatchNorm1d(D)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.a(x.transpose(1, 2)), dim=1)
        return self.c(F.silu(self.norm(self.b(x)))).transpose(1, 2)


class Conformer(Stack):
    """½ MLP, attention, convolution, ½ MLP, norm: the Macaron order (Gulati et al. 2020)."""

    def __init__(self, n: int = 4) -> None:
        super().__init__([m for _ in range(n) for m in (mlp(), Attention(), ConvModule(), mlp())])
        self.last = nn.ModuleList(nn.LayerNorm(D) for _ in range(n))

    def join(self, x: Tensor, k: int) -> Tensor:
        y = self.sublayers[k](self.norms[k](x))
        if k % 4 in (0, 3):
            y = 0.5 * y
        x = x + y
        return self.last[k // 4](x) if k % 4 == 3 else x


class FlashFFTConv(nn.Module):
    """Hyena of order 2: v, x₁, x₂ = short conv of a projection; x₂ · (h ∗ (x₁ v) + bias · x₁ v) (Poli et al. 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.short = nn.Conv1d(3 * D, 3 * D, 3, padding=1, groups=3 * D)
        self.filter, self.bias = nn.Parameter(torch.zeros(D, LENGTH)), nn.Parameter(torch.zeros(D, 1))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        v, a, b = self.short(self.into(x).transpose(1, 2)).chunk(3, dim=1)
        u = v * a
        spectrum = torch.fft.rfft(u, n=2 * n) * torch.fft.rfft(self.filter, n=2 * n)
        y = torch.fft.irfft(spectrum, n=2 * n)[..., :n] + u * self.bias
        return self.out((y * b).transpose(1, 2))


class Hyena(Stack):
    def __init__(self, n: int = 4) -> None:
        super().__init__([m for _ in range(n) for m in (FlashFFTConv(), mlp())])


class TokenMixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = mlp(LENGTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x.transpose(1, 2)).transpose(1, 2)


class Mixer(Stack):
    """MLP-Mixer on a sequence: an MLP over positions, an MLP over channels."""

    def __init__(self, n: int = 4) -> None:
        super().__init__([m for _ in range(n) for m in (TokenMixing(), mlp())])


class FNet(Stack):
    """Fourier mixing has no weights, but the norm before it has (as PoolFormer's)."""

    class Fourier(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft2(x, dim=(1, 2)).real

    def __init__(self, n: int = 4) -> None:
        super().__init__([m for _ in range(n) for m in (FNet.Fourier(), mlp())])


class TokenShift(nn.Module):
    """RWKV-5's lerp of each token with the one before: x + (shift(x) − x)·μ."""

    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return x + (F.pad(x, (0, 0, 1, -1)) - x) * self.mu


class ChannelMix(nn.Module):
    """RWKV's second half: σ(R(shifted)) · V(relu²(K(shifted)))."""

    def __init__(self) -> None:
        super().__init__()
        self.shift_k, self.shift_r = TokenShift(), TokenShift()
        self.k, self.r, self.v = nn.Linear(D, 2 * D), nn.Linear(D, D), nn.Linear(2 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.r(self.shift_r(x))) * self.v(torch.relu(self.k(self.shift_k(x))).square())


class RWKV5(Stack):
    """Linear attention stands for time mixing's kernel: three token shifts there, two in channel mixing."""

    class TimeMix(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shifts = nn.ModuleList(TokenShift() for _ in range(3))
            self.r, self.k, self.v, self.out = (nn.Linear(D, D) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            r, k, v = (f(s(x)) for f, s in zip((self.r, self.k, self.v), self.shifts, strict=True))
            return self.out(r @ (k.transpose(1, 2) @ v))

    def __init__(self, n: int = 2) -> None:
        super().__init__([m for _ in range(n) for m in (RWKV5.TimeMix(), ChannelMix())])


class HyperConnections(nn.Module):
    """y = A x + b·F(aᵀx) over s streams (Zhu et al. 2024), the two width connections as two products.

    Args:
        dynamic: A, a and b get a part computed from x.
    """

    def __init__(self, n: int = 4, streams: int = 3, dynamic: bool = False) -> None:
        super().__init__()
        self.embed, self.streams = nn.Linear(D, D), streams
        self.layers, self.norms = nn.ModuleList(pairs(n)), nn.ModuleList(nn.LayerNorm(D) for _ in range(2 * n))
        self.mix = nn.ParameterList(torch.eye(streams) for _ in range(2 * n))
        self.pre = nn.ParameterList(torch.ones(1, streams) for _ in range(2 * n))
        self.post = nn.ParameterList(torch.ones(streams, 1) for _ in range(2 * n))
        self.dynamic = nn.ModuleList(nn.Linear(D, streams) for _ in range(2 * n)) if dynamic else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = x.unsqueeze(2).repeat(1, 1, self.streams, 1)  # batch, position, stream, width
        for k, (f, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            mix = self.mix[k]
            if self.dynamic is not None:
                mix = mix + torch.tanh(self.dynamic[k](x))
            h = (self.pre[k] @ x).squeeze(2)
            x = mix @ x + self.post[k] @ f(norm(h)).unsqueeze(2)
        return x.sum(2)


class UViT(nn.Module):
    """Long skips by Linear(cat(x, skip)) between the two halves of a ViT (Bao et al. 2022)."""

    def __init__(self, half: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(D, D)
        self.down, self.mid, self.up = (
            nn.ModuleList(Stack(pairs(1), embed=False) for _ in range(n)) for n in (half, 1, half)
        )
        self.join = nn.ModuleList(nn.Linear(2 * D, D) for _ in range(half))

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.embed(x), []
        for f in self.down:
            x = f(x)
            skips.append(x)
        x = self.mid[0](x)
        for join, f in zip(self.join, self.up, strict=True):
            x = f(join(torch.cat([x, skips.pop()], dim=-1)))
        return x


def sequence() -> tuple[Tensor, ...]:
    """A batch of two sequences."""
    return (torch.zeros(2, LENGTH, D),)


STACKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "written:rezero": (ReZero, sequence),
    "written:deepnet": (DeepNet, sequence),
    "written:normformer": (NormFormer, sequence),
    "written:primer": (Primer, sequence),
    "written:highway transformer": (HighwayTransformer, sequence),
    "written:lambda transformer": (LambdaTransformer, sequence),
    "written:conformer": (Conformer, sequence),
    "written:hyena": (Hyena, sequence),
    "written:mixer 1d": (Mixer, sequence),
    "written:fnet": (FNet, sequence),
    "written:rwkv5": (RWKV5, sequence),
    "written:hyper-connections, static": (HyperConnections, sequence),
    "written:hyper-connections, dynamic": (lambda: HyperConnections(dynamic=True), sequence),
    "written:uvit": (UViT, sequence),
}
