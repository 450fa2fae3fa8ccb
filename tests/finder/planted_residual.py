"""Residual blocks of a planted net: every shortcut, every way to write an add or a concat."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finder.planted import Planted, Spec, Told, TwoReadings, Walk, join, telling
from finder.planted_ops import Ctx, Learned, Shape, conv, norm, size_of, with_channels

# name: (class, weights on it in order, to how many channels it fits: "same", "fewer", "more", to what resolution)
SHORTCUTS: dict[str, tuple[str, tuple[tuple[str, bool], ...], str, str]] = {
    "identity": ("identity", (), "same", "same"),
    "view": ("identity", (), "same", "same"),
    "half": ("scaled", (), "same", "same"),
    "divided": ("scaled", (), "same", "same"),
    "negated": ("scaled", (), "same", "same"),
    "learned": ("scaled", (("scale", False),), "same", "same"),
    "norm": ("scaled", (("norm", False),), "same", "same"),
    "plain norm": ("scaled", (), "same", "same"),
    "dropout": ("scaled", (), "same", "same"),
    "slice": ("slice", (), "fewer", "same"),
    "pad": ("slice", (), "more", "same"),
    "zeros": ("slice", (), "more", "same"),
    "stride": ("slice", (), "same", "down"),
    "stride pad": ("slice", (), "more", "down"),
    "pool": ("pool", (), "same", "down"),
    "max pool": ("pool", (), "same", "down"),
    "up": ("resample", (), "same", "up"),
    "projection": ("projection", (("proj", True),), "same fewer more", "same down up"),
    "projection norm": ("projection", (("proj", True), ("norm", False)), "same fewer more", "same down up"),
    "norm projection": ("projection", (("norm", False), ("proj", True)), "same fewer more", "same"),
    "pool projection": ("projection", (("proj", True),), "same fewer more", "down"),
    "learned matrix": ("projection", (("matrix", True),), "same fewer more", "same"),
}  # fmt: skip


class Short(nn.Module):
    """The shortcut of a kind of `SHORTCUTS`, from one shape to another."""

    def __init__(self, kind: str, ctx: Ctx, shape: Shape, to: Shape) -> None:
        super().__init__()
        self.kind, self.ctx, self.wide = kind, ctx, to[ctx.axis]
        a, b, ratio = shape[ctx.axis], to[ctx.axis], 1.0
        if ctx.fam != "tokens":
            ratio = shape[2] / to[2]
        if kind in ("projection", "projection norm", "norm projection", "pool projection"):
            self.proj = conv(ctx, a, b, 1, 1 if kind == "pool projection" else ratio)
        if kind in ("norm", "projection norm"):
            self.norm = norm(ctx, a if kind == "norm" else b)
        if kind in ("norm projection", "plain norm"):
            self.norm = norm(ctx, a, affine=kind != "plain norm")
        if kind == "learned":
            self.scale = Learned(())
        if kind == "learned matrix":
            self.matrix = Learned((a, b))
        if kind == "dropout":
            self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        ctx, kind = self.ctx, self.kind
        if kind == "view":
            return x.flatten(1).view(x.shape)
        if kind == "half":
            return x * 0.5
        if kind == "divided":
            return x / 2
        if kind == "negated":
            return -x
        if kind == "learned":
            return self.scale.weight * x
        if kind in ("norm", "plain norm"):
            return self.norm(x)
        if kind == "dropout":
            return self.drop(x)
        if kind == "slice":
            return x[:, : self.wide] if ctx.axis == 1 else x[..., : self.wide]
        if kind in ("stride", "stride pad"):
            x = x[:, :, ::2, ::2] if ctx.fam == "image" else x[:, :, ::2]
        if kind in ("pad", "stride pad"):
            more = self.wide - x.shape[ctx.axis]
            return F.pad(x, (0, more) if ctx.axis == 2 else (0, 0) * (x.dim() - 2) + (0, more))
        if kind == "zeros":
            more = list(x.shape)
            more[ctx.axis] = self.wide - x.shape[ctx.axis]
            return torch.cat([x, x.new_zeros(more)], ctx.axis)
        if kind == "pool" or kind == "pool projection":
            x = F.avg_pool2d(x, 2) if ctx.fam == "image" else F.avg_pool1d(x, 2)
        if kind == "max pool":
            x = F.max_pool2d(x, 2) if ctx.fam == "image" else F.max_pool1d(x, 2)
        if kind == "up":
            x = F.interpolate(x, scale_factor=2)
        if kind == "projection":
            x = self.proj(x)
        if kind == "projection norm":
            x = self.norm(self.proj(x))
        if kind == "norm projection":
            x = self.proj(self.norm(x))
        if kind == "pool projection":
            x = self.proj(x)
        if kind == "learned matrix":
            x = torch.movedim(torch.movedim(x, ctx.axis, -1) @ self.matrix.weight, -1, ctx.axis)
        return x


ADDS_OF_TWO = (
    "+", "+=", "torch.add", "alpha", "alpha shortcut", "sub", "sub shortcut", "sum", "stack", "stack last", "addcmul",
    "addcmul learned", "lerp", "lerp learned", "mix", "mix learned", "flat", "method",
)  # fmt: skip
ADDS_OF_TOKENS = ("baddbmm", "baddbmm learned", "addmm", "addmm learned")
ADDS_OF_MANY = ("+", "+=", "late", "nested", "sum", "stack")
CATS = ("cat", "keyword", "negative", "concat", "concatenate", "growing")  # and hstack where channels are dimension 1
SCALING = ("alpha shortcut", "sub shortcut", "lerp", "lerp learned", "mix", "mix learned")


@dataclass(frozen=True)
class Residual(Spec):
    """``shortcut(x) + F(x)`` or ``cat(shortcut(x), F(x))``, with one branch or several.

    Attributes:
        branches: what F is.
        shortcut: a kind of `SHORTCUTS`.
        merge: how the add or concat is written.
        flip: the branch comes first.
        late: the shortcut is computed after the branches.
        pre: a norm that all branches share (``x + attn(n) + mlp(n)``).
    """

    branches: tuple[Spec, ...]
    shortcut: str = "identity"
    merge: str = "+"
    flip: bool = False
    late: bool = False
    pre: bool = False

    @property
    def concat(self) -> bool:
        return self.merge in CATS or self.merge in ("hstack", "pairs")

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Residual(self, ctx, shape)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        fork, start = replace(walk), walk.layers
        label, weights, _, _ = SHORTCUTS[self.shortcut]
        if self.shortcut == "dropout" and not ctx.training:
            label = "identity"  # in evaluation it hands its argument on
        shorts = [(join(join(path, "short"), part), matrix) for part, matrix in weights]

        def run_shortcut() -> None:
            for owner, matrix in shorts:
                walk.weigh(owner, matrix)

        if not self.late:
            run_shortcut()
        shared = [(join(path, "pre"), False)] if self.pre else []
        for owner, matrix in shared:
            walk.weigh(owner, matrix)
        told: list[Told] = []
        for k, branch in enumerate(self.branches):
            walk.made(fork.shape, join(path, "pre") if self.pre else fork.maker)
            child = join(path, ctx.name("branch", k))
            told.append(telling(ctx, walk, lambda branch=branch, child=child: branch.tell(ctx, walk, child, child)))
        if self.late:
            run_shortcut()
        extra = self._extra(path)
        for owner, matrix in extra:
            walk.weigh(owner, matrix)
        self._refuse(ctx, told)
        branches = told if not self.concat else told[-1:]  # DESIGN: B is what comes back through the newest operand
        regions = [(*shared, *t.weights, *extra) for t in branches]
        light = len(shorts)
        if self.merge == "lerp learned":  # a weighted op, on no branch of this skip but on that of one around it
            walk.weigh(join(path, "mix"), False)
        if self.merge == "mix learned":  # both products take the learned number
            light += 1
            walk.weigh(join(path, "mix"), False)
            shorts = [*shorts, (join(path, "mix"), False)]
        assert min(len(r) for r in regions) > light, "a shortcut with as many weights as the branch is none"
        if label == "identity" and self.merge in SCALING:
            label = "scaled"
        merge_shape = self._merge_shape(ctx, fork.shape, [t.shape for t in told])
        walk.skips.append(
            Planted(
                kind="concat" if self.concat else "add",
                shortcut=label,
                long=any(t.long for t in told),
                span=max(sum(m for _, m in r) for r in regions),
                fan_in=1 + len(told),
                branches=tuple(tuple(dict.fromkeys(p for p, _ in r)) for r in regions),
                fork_shape=fork.shape,
                merge_shape=merge_shape,
                owner=here,
                fork=fork.maker,
                start=start,
                end=walk.layers,
                shortcut_modules=tuple(dict.fromkeys(p for p, _ in shorts)),
            )
        )
        out = merge_shape if self.merge not in ("flat", "addmm", "addmm learned") else told[0].shape
        viewed = self.merge in ("flat", "addmm", "addmm learned")
        walk.made(out, here, "" if viewed else "cat" if self.concat else "add")
        walk.sizes.append(size_of(ctx, out))

    def _extra(self, path: str) -> list[tuple[str, bool]]:
        """Weights the way of writing puts on the branch."""
        owner = join(path, "mix")
        if self.merge in ("addcmul learned", "mix learned"):
            return [(owner, False)]
        return [(owner, True)] if self.merge in ("baddbmm learned", "addmm learned") else []

    def _refuse(self, ctx: Ctx, told: list[Told]) -> None:
        if self.concat and any(t.tail == "cat" for t in told):
            raise TwoReadings("a concat whose branch ends in a concat")
        if len(told) > 1 and any(t.acts == 0 for t in told):
            raise TwoReadings("several branches of which one is linear")
        if len(told) > 1 and not self.concat and any(t.tail == "add" for t in told):
            raise TwoReadings("several branches of which one ends in an add")
        if len(told) > 1 and self.concat and any(t.skips for t in told):
            raise TwoReadings("an n-ary concat in whose branches there are skips")

    def _merge_shape(self, ctx: Ctx, fork: Shape, shapes: list[Shape]) -> Shape:
        if self.concat:
            own = SHORTCUTS[self.shortcut][0] in ("slice", "projection")
            first = shapes[0][ctx.axis] if own else fork[ctx.axis]
            return with_channels(ctx, shapes[0], first + sum(s[ctx.axis] for s in shapes))
        whole = max(shapes[0], fork, key=_numel) if self.shortcut == "identity" else shapes[0]
        if self.merge == "flat":
            return (whole[0], _numel(whole[1:]))
        if self.merge in ("addmm", "addmm learned"):
            return (whole[0] * whole[1], whole[2])
        return whole


def _numel(shape: Shape) -> int:
    out = 1
    for s in shape:
        out *= s
    return out


class _Residual(nn.Module):
    def __init__(self, spec: Residual, ctx: Ctx, shape: Shape) -> None:
        super().__init__()
        self.spec, self.ctx = spec, ctx
        to = spec.branches[0].out(ctx, shape)
        self.short = Short(spec.shortcut, ctx, shape, to)
        self.pre = norm(ctx, shape[ctx.axis]) if spec.pre else None
        self.names = [ctx.name("branch", k) for k in range(len(spec.branches))]
        for name, branch in zip(self.names, spec.branches, strict=True):
            self.add_module(name, branch.build(ctx, shape))
        if spec.merge in ("addcmul learned", "lerp learned", "mix learned"):
            self.mix = Learned(())
        if spec.merge in ("baddbmm learned", "addmm learned"):
            self.mix = Learned((to[-1], to[-1]))

    def forward(self, x: Tensor) -> Tensor:
        s = self.short(x) if self.spec.shortcut != "identity" and not self.spec.late else x
        n = self.pre(x) if self.pre is not None else x
        branches = [getattr(self, name)(n) for name in self.names]
        if self.spec.shortcut != "identity" and self.spec.late:
            s = self.short(x)
        if self.spec.concat:
            return self._cat([*branches, s] if self.spec.flip else [s, *branches])
        return self._add_two(s, branches[0]) if len(branches) == 1 else self._add(s, branches)

    def _cat(self, parts: list[Tensor]) -> Tensor:
        axis, how = self.ctx.axis, self.spec.merge
        if how == "pairs":
            out = parts[0]
            for part in parts[1:]:
                out = torch.cat([out, part], axis)
            return out
        if how == "growing":
            held: list[Tensor] = []
            for part in parts:
                held.append(part)
            return torch.cat(held, axis)
        return {
            "cat": lambda: torch.cat(parts, axis),
            "keyword": lambda: torch.cat(tensors=parts, dim=axis),
            "negative": lambda: torch.cat(tuple(parts), dim=axis - parts[0].dim()),
            "concat": lambda: torch.concat(parts, axis),
            "concatenate": lambda: torch.concatenate(parts, dim=axis),
            "hstack": lambda: torch.hstack(parts),
        }[how]()

    def _add(self, s: Tensor, f: list[Tensor]) -> Tensor:
        how = self.spec.merge
        if how == "+=":
            out = f[0]
            for other in [*f[1:], s]:
                out += other
            return out
        if how == "nested":
            out = f[0] + s
            for other in f[1:]:
                out = other + out
            return out
        if how == "late":
            out = f[0]
            for other in [*f[1:], s]:
                out = out + other
            return out
        if how == "sum":
            return sum([*f, s] if self.spec.flip else [s, *f])  # type: ignore[return-value]
        if how == "stack":
            return torch.stack([s, *f]).sum(0)
        out = s
        for other in f:
            out = out + other
        return out

    def _add_two(self, s: Tensor, f: Tensor) -> Tensor:
        how, flip = self.spec.merge, self.spec.flip
        a, b = (f, s) if flip else (s, f)
        if how == "+=":
            f += s
            return f
        if how == "method":  # the shortcut is the tensor that is changed
            return s.add_(f)
        mix: Any = torch.sigmoid(self.mix.weight) if how in ("lerp learned", "mix learned") else None
        learned: Any = self.mix.weight if how in ("addcmul learned", "baddbmm learned", "addmm learned") else None
        return {
            "+": lambda: a + b,
            "torch.add": lambda: torch.add(a, b),
            "alpha": lambda: torch.add(s, f, alpha=2),
            "alpha shortcut": lambda: torch.add(f, s, alpha=2),
            "sub": lambda: s - f,
            "sub shortcut": lambda: torch.sub(f, s),
            "sum": lambda: sum([a, b]),
            "stack": lambda: torch.stack([a, b]).sum(dim=0),
            "stack last": lambda: torch.stack((a, b), -1).sum(-1),
            "addcmul": lambda: torch.addcmul(s, f, torch.full((), 0.5, device=f.device), value=2),
            "addcmul learned": lambda: torch.addcmul(s, f, learned),
            "lerp": lambda: torch.lerp(a, b, 0.3),
            "lerp learned": lambda: torch.lerp(a, b, mix),
            "mix": lambda: 0.3 * a + 0.7 * b,
            "mix learned": lambda: mix * f + (1 - mix) * s,
            "flat": lambda: (a.flatten(1) + b.flatten(1)).view(f.shape),
            "baddbmm": lambda: torch.baddbmm(s, f, torch.eye(f.shape[2], device=f.device).expand(f.shape[0], -1, -1)),
            "baddbmm learned": lambda: torch.baddbmm(s, f, learned.expand(f.shape[0], -1, -1)),
            "addmm": lambda: torch.addmm(s.flatten(0, 1), f.flatten(0, 1), torch.eye(f.shape[2], device=f.device))
            .view(f.shape),
            "addmm learned": lambda: torch.addmm(s.flatten(0, 1), f.flatten(0, 1), learned).view(f.shape),
        }[how]()  # fmt: skip
