"""The other skips of a planted net (dense blocks, gates, pooling indices, split channels), and decoys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finder.planted import Planted, Spec, Told, TwoReadings, Walk, join, telling
from finder.planted_ops import Ctx, Learned, Shape, conv, norm, pooled, size_of, with_channels


def _owners(told: Told) -> tuple[tuple[str, ...], ...]:
    return (told.owners,)


@dataclass(frozen=True)
class Dense(Spec):
    """DenseNet's block, by a growing list or by concats of two. Each merge is one skip past the newest layer alone."""

    parts: tuple[Spec, ...]
    growing: bool = True

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        made, wide = [], shape[ctx.axis]
        for part in self.parts:
            into = with_channels(ctx, shape, wide)
            made.append(part.build(ctx, into))
            wide += part.out(ctx, into)[ctx.axis]
        return _Dense(self, ctx, made)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        newest, start = walk.maker, walk.layers
        for k, part in enumerate(self.parts):
            fork = walk.shape
            child = join(path, f"{ctx.name('layers', 0)}.{k}")
            walk.made(fork, here)
            told = telling(ctx, walk, lambda part=part, child=child: part.tell(ctx, walk, child, child))
            if told.tail == "cat":
                raise TwoReadings("a concat whose branch ends in a concat")
            merged = with_channels(ctx, fork, fork[ctx.axis] + told.shape[ctx.axis])
            walk.skips.append(
                Planted(
                    kind="concat", shortcut="identity", long=told.long, span=told.span,
                    fan_in=k + 2 if self.growing else 2, branches=_owners(told), fork_shape=fork, merge_shape=merged,
                    owner=here, fork=newest, start=start, end=walk.layers, shortcut_modules=(),
                )
            )  # fmt: skip
            # The fork of the next merge: the newest layer's output in a growing list, else what was merged here.
            newest, start = (told.maker, told.layers) if self.growing else (here, walk.layers)
            walk.made(merged, here, "cat")


class _Dense(nn.Module):
    def __init__(self, spec: Dense, ctx: Ctx, parts: list[nn.Module]) -> None:
        super().__init__()
        self.growing, self.axis, self.held = spec.growing, ctx.axis, ctx.name("layers", 0)
        self.add_module(self.held, nn.ModuleList(parts))

    def forward(self, x: Tensor) -> Tensor:
        held = [x]
        for layer in getattr(self, self.held):
            new = layer(torch.cat(held, self.axis) if self.growing else held[0])
            held = [*held, new] if self.growing else [torch.cat((held[0], new), self.axis)]
        return torch.cat(held, self.axis) if self.growing else held[0]


GATES = ("g*F + (1-g)*x", "(1-g)*F + g*x", "x*(1-g) + F*g", "lerp(x, F, g)", "lerp(F, x, g)", "rsub")


@dataclass(frozen=True)
class Gate(Spec):
    """A highway: branch and fork weighted by a gate computed from the fork."""

    part: Spec
    form: str = "g*F + (1-g)*x"
    first: bool = True  # the gate is computed before the branch

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Gate(self, ctx, shape)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        fork, maker, start = walk.shape, walk.maker, walk.layers
        if self.first:
            walk.weigh(join(path, "gate"), True)
        child = join(path, ctx.name("branch", 0))
        told = telling(ctx, walk, lambda: self.part.tell(ctx, walk, child, child))
        if not self.first:
            walk.weigh(join(path, "gate"), True)
        walk.skips.append(
            Planted(
                kind="gate", shortcut="identity", long=told.long, span=told.span, fan_in=2, branches=_owners(told),
                fork_shape=fork, merge_shape=fork, owner=here, fork=maker, start=start, end=walk.layers,
                shortcut_modules=(),
            )
        )  # fmt: skip
        walk.acts += 1
        walk.made(fork, here, "add" if not self.form.startswith("lerp") else "")


class _Gate(nn.Module):
    def __init__(self, spec: Gate, ctx: Ctx, shape: Shape) -> None:
        super().__init__()
        self.form, self.first, self.branch = spec.form, spec.first, ctx.name("branch", 0)
        self.gate = conv(ctx, shape[ctx.axis], shape[ctx.axis], 1)
        self.add_module(self.branch, spec.part.build(ctx, shape))

    def forward(self, x: Tensor) -> Tensor:
        g = torch.sigmoid(self.gate(x)) if self.first else None
        f = getattr(self, self.branch)(x)
        if g is None:
            g = torch.sigmoid(self.gate(x))
        return {
            "g*F + (1-g)*x": lambda: g * f + (1 - g) * x,
            "(1-g)*F + g*x": lambda: (1 - g) * f + g * x,
            "x*(1-g) + F*g": lambda: x * (1.0 - g) + f * g,
            "lerp(x, F, g)": lambda: torch.lerp(x, f, g),
            "lerp(F, x, g)": lambda: torch.lerp(f, x, g),
            "rsub": lambda: torch.mul(g, f).add_(torch.mul(x, torch.rsub(g, 1))),
        }[self.form]()


@dataclass(frozen=True)
class Index(Spec):
    """SegNet: the indices of a max pooling are used by an unpooling after the branch."""

    part: Spec

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Index(self, ctx, shape)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        fork, maker, start = walk.shape, walk.maker, walk.layers
        child = join(path, ctx.name("branch", 0))

        def tell() -> None:
            walk.made(_halved(fork), join(path, "pool"))
            walk.sizes.append(size_of(ctx, walk.shape))
            self.part.tell(ctx, walk, child, child)
            walk.sizes.append(size_of(ctx, fork))  # the unpooling brings the branch back

        told = telling(ctx, walk, tell)
        walk.skips.append(
            Planted(
                kind="index", shortcut="pool", long=told.long, span=told.span, fan_in=2, branches=_owners(told),
                fork_shape=fork, merge_shape=fork, owner=here, fork=maker, start=start, end=walk.layers,
                shortcut_modules=(),
            )
        )  # fmt: skip
        walk.made(fork, here)


def _halved(shape: Shape) -> Shape:
    return (*shape[:2], *(s // 2 for s in shape[2:]))


class _Index(nn.Module):
    def __init__(self, spec: Index, ctx: Ctx, shape: Shape) -> None:
        super().__init__()
        self.pool = (nn.MaxPool2d if ctx.fam == "image" else nn.MaxPool1d)(2, return_indices=True)
        self.unpool: Any = F.max_unpool2d if ctx.fam == "image" else F.max_unpool1d
        self.branch = ctx.name("branch", 0)
        self.add_module(self.branch, spec.part.build(ctx, _halved(shape)))

    def forward(self, x: Tensor) -> Tensor:
        x, indices = self.pool(x)
        return self.unpool(getattr(self, self.branch)(x), indices, 2)


SPLITS = ("chunk", "split", "slices", "unbind")


@dataclass(frozen=True)
class Split(Spec):
    """ShuffleNet: half of the channels goes around the branch that the other half takes."""

    part: Spec
    how: str = "chunk"
    add: bool = False

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Split(self, ctx, shape)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        fork, maker, start = walk.shape, walk.maker, walk.layers
        half = fork[ctx.axis] // 2
        if self.how == "unbind":  # the latest value both descend from is the view that is taken apart
            fork, maker = (*fork[: ctx.axis], 2, half, *fork[ctx.axis + 1 :]), here
        child = join(path, ctx.name("branch", 0))
        walk.made(with_channels(ctx, walk.shape, half), here)
        told = telling(ctx, walk, lambda: self.part.tell(ctx, walk, child, child))
        if told.tail == "cat" and not self.add:
            raise TwoReadings("a concat whose branch ends in a concat")
        merged = told.shape if self.add else with_channels(ctx, told.shape, half + told.shape[ctx.axis])
        walk.skips.append(
            Planted(
                kind="add" if self.add else "concat", shortcut="slice", long=told.long, span=told.span, fan_in=2,
                branches=_owners(told), fork_shape=fork, merge_shape=merged, owner=here, fork=maker, start=start,
                end=walk.layers, shortcut_modules=(),
            )
        )  # fmt: skip
        walk.made(merged, here, "add" if self.add else "cat")


class _Split(nn.Module):
    def __init__(self, spec: Split, ctx: Ctx, shape: Shape) -> None:
        super().__init__()
        self.ctx, self.how, self.add, self.branch = ctx, spec.how, spec.add, ctx.name("branch", 0)
        half = with_channels(ctx, shape, shape[ctx.axis] // 2)
        self.add_module(self.branch, spec.part.build(ctx, half))

    def forward(self, x: Tensor) -> Tensor:
        axis = self.ctx.axis
        half = x.shape[axis] // 2
        if self.how == "chunk":
            left, right = x.chunk(2, axis)
        elif self.how == "split":
            left, right = torch.split(x, [half, half], dim=axis)
        elif self.how == "unbind":
            left, right = x.unflatten(axis, (2, half)).unbind(axis)
        else:
            left, right = x.narrow(axis, 0, half), x.narrow(axis, half, half)
        right = getattr(self, self.branch)(right)
        return left + right if self.add else torch.cat((left, right), axis)


DECOYS = (
    "parallel add", "parallel cat", "activated", "squared", "masked", "normalized", "equal", "two", "gru", "position",
    "buffer", "expanded", "pooled", "modulated", "product",
)  # fmt: skip


@dataclass(frozen=True)
class Decoy(Spec):
    """A merge that is no skip, and an activation after it, so that no merge after it is of one chain with it.

    Attributes:
        kind: one of `DECOYS`.
        parts: its branches, of one shape, each with an activation and at the end no add or concat of its own.
    """

    kind: str
    parts: tuple[Spec, ...]

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Decoy(self, ctx, shape)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        fork, maker = walk.shape, walk.maker
        for owner, matrix in {
            "equal": (("one.0", True), ("one.1", False), ("two.0", True), ("two.1", False)),
            "two": (("one.0", True), ("one.1", True)),
            "gru": (("one", True),),
            "modulated": (("one", True), ("two", True)),
        }.get(self.kind, ()):  # fmt: skip
            walk.weigh(join(path, owner), matrix)
        shapes = []
        for k, part in enumerate(self.parts):
            walk.made(fork, maker)
            child = join(path, ctx.name("branch", k))
            told = telling(ctx, walk, lambda part=part, child=child: part.tell(ctx, walk, child, child))
            if told.tail or not told.acts:
                raise TwoReadings("a decoy's branch that is linear, or ends in a merge")
            shapes.append(told.shape)
        walk.acts += 1
        out = shapes[0] if shapes else fork
        if self.kind == "parallel cat":
            out = with_channels(ctx, out, sum(s[ctx.axis] for s in shapes))
        walk.made(out, here)


class _Decoy(nn.Module):
    position: Tensor

    def __init__(self, spec: Decoy, ctx: Ctx, shape: Shape) -> None:
        super().__init__()
        self.kind, self.ctx = spec.kind, ctx
        n = shape[ctx.axis]
        self.names = [ctx.name("branch", k) for k in range(len(spec.parts))]
        for name, part in zip(self.names, spec.parts, strict=True):
            self.add_module(name, part.build(ctx, shape))
        if self.kind == "equal":
            self.one = nn.Sequential(conv(ctx, n, n), norm(ctx, n))
            self.two = nn.Sequential(conv(ctx, n, n, 1), norm(ctx, n))
        if self.kind == "two":
            self.one = nn.Sequential(conv(ctx, n, n), conv(ctx, n, n, 1))
        if self.kind == "gru":
            self.one = nn.GRU(n, n, batch_first=True)
        if self.kind == "modulated":
            self.one, self.two = conv(ctx, n, n, 1), conv(ctx, n, n, 1)
        if self.kind == "position":
            self.learned = Learned(shape[1:])
        if self.kind == "expanded":
            self.learned = Learned((n,) if ctx.axis == 2 else (n, *(1 for _ in shape[2:])))
        if self.kind == "buffer":
            self.register_buffer("position", torch.ones(shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        ctx, kind = self.ctx, self.kind
        first: Any = self.one(x) if kind in ("equal", "two", "gru") else None
        second: Any = self.two(x) if kind == "equal" else None
        if kind == "modulated":
            first, second = self.one(pooled(ctx, x)), self.two(pooled(ctx, x))
        f = [getattr(self, name)(x) for name in self.names]
        out = {
            "parallel add": lambda: sum(f[1:], f[0]),
            "parallel cat": lambda: torch.cat(f, ctx.axis),
            "activated": lambda: torch.relu(x) + f[0],
            "squared": lambda: f[0] + x * x,
            "masked": lambda: x * (x > 0) + f[0],
            "normalized": lambda: F.normalize(x, dim=ctx.axis) + f[0],
            "equal": lambda: first + second,
            "two": lambda: first + f[0],
            "gru": lambda: first[0] + f[0],
            "position": lambda: torch.tanh(x) + self.learned.weight,
            "buffer": lambda: torch.tanh(x) + self.position,
            "expanded": lambda: self.learned.weight.expand_as(x) + f[0],
            "pooled": lambda: f[0] + pooled(ctx, x),
            "modulated": lambda: torch.tanh(x) * (1 + first) + second,
            "product": lambda: x * f[0],
        }[kind]()
        return torch.tanh(out)
