"""The ops a planted net is made of: how each is built and run, and what its planter knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Ctx:
    """What holds for a whole net.

    Attributes:
        fam: "image" (batch, channels, height, width), "signal" (batch, channels, length) or
            "tokens" (batch, length, channels).
        training: the mode it runs in.
        prefix: put before the names of modules.
    """

    fam: str
    training: bool = True
    prefix: str = ""

    @property
    def axis(self) -> int:
        """The dimension of the channels."""
        return 2 if self.fam == "tokens" else 1

    def name(self, kind: str, k: int) -> str:
        """What the k-th child is called."""
        return f"{self.prefix}{kind.replace(' ', '_')}{k}"


def size_of(ctx: Ctx, shape: Shape) -> int:
    """Spatial size; of tokens always 1, as no op here changes their number."""
    out = 1
    for s in shape[2:] if ctx.fam != "tokens" else ():
        out *= s
    return out


def with_channels(ctx: Ctx, shape: Shape, n: int) -> Shape:
    """The shape with n channels."""
    return (*shape[: ctx.axis], n, *shape[ctx.axis + 1 :])


class Learned(nn.Module):
    """Holds a learned tensor that others use."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape) / 2)


def conv(ctx: Ctx, a: int, b: int, k: int = 3, ratio: float = 1.0, groups: int = 1) -> nn.Module:
    """The family's matrix-like layer; `ratio` 2 halves the resolution, 0.5 doubles it."""
    if ctx.fam == "tokens":
        return nn.Linear(a, b)
    if ratio < 1:
        return (nn.ConvTranspose2d if ctx.fam == "image" else nn.ConvTranspose1d)(a, b, 2, 2)
    return (nn.Conv2d if ctx.fam == "image" else nn.Conv1d)(a, b, k, int(ratio), k // 2, groups=groups)


def norm(ctx: Ctx, n: int, affine: bool = True) -> nn.Module:
    """A norm of the family that takes no permutation."""
    if ctx.fam == "tokens":
        return nn.LayerNorm(n, elementwise_affine=affine)
    return (nn.BatchNorm2d if ctx.fam == "image" else nn.BatchNorm1d)(n, affine=affine)


class Attention(nn.Module):
    """Self-attention over tokens, from one projection cut in three."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(n, 3 * n), nn.Linear(n, n)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(F.scaled_dot_product_attention(q, k, v))


class Squeeze(nn.Module):
    """Squeeze and excite: a pure gate."""

    def __init__(self, ctx: Ctx, n: int) -> None:
        super().__init__()
        self.fc, self.ctx = conv(ctx, n, n, 1), ctx

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(pooled(self.ctx, x)))


def pooled(ctx: Ctx, x: Tensor) -> Tensor:
    """The mean over all positions, with their dimensions kept."""
    return x.mean({"image": (2, 3), "signal": 2, "tokens": 1}[ctx.fam], keepdim=True)


ALL = "image signal tokens"
Make = Callable[[Ctx, Shape, int], nn.Module | None]
Run = Callable[[Ctx, Any, Tensor], Tensor]


def _nothing(ctx: Ctx, shape: Shape, out: int) -> None:
    return None


def _same(ctx: Ctx, shape: Shape, out: int) -> Shape:
    return with_channels(ctx, shape, out or shape[ctx.axis])


def _call(ctx: Ctx, child: Any, x: Tensor) -> Tensor:
    return child(x)


@dataclass(frozen=True)
class Rule:
    """One kind of op.

    Attributes:
        make: builds the child module, if it has one.
        run: runs it.
        weights: (path below the child, whether matrix-like) of its weighted calls, in order.
        out: shape after it.
        act: it is not linear.
        called: families in which its last op runs in the child's forward.
        by: path below the child of the module of the last op.
        does: whether it does anything at all.
    """

    make: Make = _nothing
    run: Run = _call
    weights: Callable[[Ctx], tuple[tuple[str, bool], ...]] = lambda ctx: ()
    out: Callable[[Ctx, Shape, int], Shape] = _same
    act: bool = False
    called: str = ALL
    by: str = ""
    does: Callable[[Ctx], bool] = lambda ctx: True


def _matrix(ctx: Ctx) -> tuple[tuple[str, bool], ...]:
    return (("", True),)


def _light(ctx: Ctx) -> tuple[tuple[str, bool], ...]:
    return (("", False),)


def _resized(factor: float) -> Callable[[Ctx, Shape, int], Shape]:
    def out(ctx: Ctx, shape: Shape, n: int) -> Shape:
        return (*_same(ctx, shape, n)[:2], *(int(s * factor) for s in shape[2:]))

    return out


def _ones(ctx: Ctx, shape: Shape, n: int) -> Shape:
    return (shape[0], 1, shape[2]) if ctx.fam == "tokens" else (*shape[:2], *(1 for _ in shape[2:]))


def _halved(ctx: Ctx, shape: Shape, n: int) -> Shape:
    return with_channels(ctx, shape, shape[ctx.axis] // 2)


def _mixed(ctx: Ctx, child: Any, x: Tensor) -> Tensor:
    return child(x.transpose(1, 2)).transpose(1, 2) if ctx.fam == "tokens" else child(x)


def _product(ctx: Ctx, child: Any, x: Tensor) -> Tensor:
    spell = {"image": "bchw,cd->bdhw", "signal": "bcl,cd->bdl"}
    return x @ child.weight if ctx.fam == "tokens" else torch.einsum(spell[ctx.fam], x, child.weight)


def _last_norm(ctx: Ctx, child: Any, x: Tensor) -> Tensor:
    return torch.movedim(child(torch.movedim(x, ctx.axis, -1)), -1, ctx.axis)


def _gated(ctx: Ctx, child: Any, x: Tensor) -> Tensor:
    a, b = child(x).chunk(2, ctx.axis)
    return a * torch.sigmoid(b)


def _pool(ctx: Ctx, child: Any, x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2) if ctx.fam == "image" else F.avg_pool1d(x, 2)


def _act(fn: Callable[[Tensor], Tensor]) -> Rule:
    return Rule(run=lambda ctx, child, x: fn(x), act=True, called="")


def _here(fn: Callable[[Ctx, Tensor], Tensor]) -> Rule:
    return Rule(run=lambda ctx, child, x: fn(ctx, x), called="")


def _wide(ctx: Ctx, shape: Shape, factor: int) -> nn.Module:
    return conv(ctx, shape[ctx.axis], factor * shape[ctx.axis], 1)


KINDS: dict[str, Rule] = {
    # layers
    "conv": Rule(lambda c, s, n: conv(c, s[c.axis], n or s[c.axis]), weights=_matrix),
    "conv1": Rule(lambda c, s, n: conv(c, s[c.axis], n or s[c.axis], 1), weights=_matrix),
    "mix": Rule(
        lambda c, s, n: nn.Linear(s[1], s[1]) if c.fam == "tokens" else conv(c, s[1], s[1], groups=s[1]),
        _mixed, _matrix, lambda c, s, n: s, called="image signal",
    ),
    "matmul": Rule(lambda c, s, n: Learned((s[c.axis], n or s[c.axis])), _product, _matrix, called=""),
    "attention": Rule(
        lambda c, s, n: Attention(s[2]), weights=lambda c: (("qkv", True), ("proj", True)), act=True, by="proj",
        out=lambda c, s, n: s,
    ),
    "gru": Rule(
        lambda c, s, n: nn.GRU(s[2], n or s[2], batch_first=True), lambda c, m, x: m(x)[0], _matrix,
    ),
    "glu": Rule(
        lambda c, s, n: _wide(c, s, 2), lambda c, m, x: F.glu(m(x), c.axis), _matrix, lambda c, s, n: s, True, "",
    ),
    "gated": Rule(lambda c, s, n: _wide(c, s, 2), _gated, _matrix, lambda c, s, n: s, True, ""),
    "squeeze": Rule(
        lambda c, s, n: Squeeze(c, s[c.axis]), weights=lambda c: (("fc", True),), act=True, out=lambda c, s, n: s,
    ),
    # resolution
    "down": Rule(lambda c, s, n: conv(c, s[1], n or s[1], 3, 2), weights=_matrix, out=_resized(0.5)),
    "down pool": Rule(run=_pool, out=lambda c, s, n: _resized(0.5)(c, s, 0), called=""),
    "down max": Rule(
        lambda c, s, n: (nn.MaxPool2d if c.fam == "image" else nn.MaxPool1d)(2),
        out=lambda c, s, n: _resized(0.5)(c, s, 0),
    ),
    "down resample": Rule(
        run=lambda c, m, x: F.interpolate(x, scale_factor=0.5), out=lambda c, s, n: _resized(0.5)(c, s, 0), called=""
    ),
    "up": Rule(
        run=lambda c, m, x: F.interpolate(x, scale_factor=2), out=lambda c, s, n: _resized(2)(c, s, 0), called=""
    ),
    "up conv": Rule(lambda c, s, n: conv(c, s[1], n or s[1], 2, 0.5), weights=_matrix, out=_resized(2)),
    "global pool": _here(pooled),
    # norms and scales
    "norm": Rule(lambda c, s, n: norm(c, s[c.axis]), weights=_light),
    "plain norm": Rule(lambda c, s, n: norm(c, s[c.axis], affine=False)),
    "group": Rule(
        lambda c, s, n: nn.RMSNorm(s[2]) if c.fam == "tokens" else nn.GroupNorm(2, s[1]), weights=_light
    ),
    "layer": Rule(
        lambda c, s, n: nn.LayerNorm(s[c.axis]), _last_norm, _light, called="",
    ),
    "scale": Rule(lambda c, s, n: Learned(()), lambda c, m, x: x * m.weight, _light, called=""),
    "half": _here(lambda c, x: x * 0.5),
    "dropout": Rule(lambda c, s, n: nn.Dropout(0.1), does=lambda c: c.training),
    # activations
    "relu": Rule(lambda c, s, n: nn.ReLU(), act=True),
    "relu_": Rule(lambda c, s, n: nn.ReLU(inplace=True), act=True),
    "gelu": Rule(lambda c, s, n: nn.GELU(), act=True),
    "prelu": Rule(lambda c, s, n: nn.PReLU(), weights=_light, act=True),
    "tanh": _act(torch.tanh),
    "silu": _act(F.silu),
    "softmax": _act(lambda x: x.softmax(-1)),
    "hardswish": _act(F.hardswish),
    "leaky": _act(lambda x: F.leaky_relu(x, 0.1)),
    # views
    "view": _here(lambda c, x: x.flatten(1).view(x.shape)),
    "reshape": _here(lambda c, x: x.reshape(-1, x.shape[-1]).reshape(x.shape)),
    "permute": _here(lambda c, x: x.movedim(1, -1).contiguous().movedim(-1, 1)),
    "unsqueeze": _here(lambda c, x: x[None].squeeze(0)),
    "chunk": Rule(run=lambda c, m, x: x.chunk(2, c.axis)[0], out=_halved, called=""),
}  # fmt: skip
KINDS["global pool"] = Rule(run=lambda c, m, x: pooled(c, x), out=_ones, called="")
