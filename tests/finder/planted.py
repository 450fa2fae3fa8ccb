"""Nets with skips that are known because they were planted: a language of nets, and what `find` must say of them.

A net is a tree of specs: `Plain`, `Chain`, `Repeat` here; `Residual` in `planted_residual`; `Dense`, `Gate`, `Index`,
`Split` and `Decoy` in `planted_others`; `planted_draws` draws them. A spec does two things, and neither looks at a
trace: it *builds* the module, and it *tells*, walking the same tree, what it planted. What is told follows DESIGN 1–2
read over the tree: a `Residual` is a skip whose fork is what it was given, whose branch weights are those of the specs
in its branch, which is long when a skip was planted in its branch.

Left out on purpose, as the definition can be read in two ways there:

- a concat of a *pooled* fork beside a convolution (a pooled shortcut, or Inception's pooling among parallel branches);
- a branch that starts with a skip (``x + (x + F(x))``: one chain of adds, or two skips): a weighted op comes first;
- a concat whose branch ends in a concat of the same dimension (one merge with three operands, or two skips);
- several branches of which one is linear: it is a branch of the identity, and a shortcut past the others;
- several branches, or a decoy's, that end in an add of their own: a chain of adds with operands of two owners;
- a sum right after a sum (a position added to ``x + F(x)``): a chain whose end is in another module;
- an n-ary concat in whose branches there are skips (long by one pair, short by the newest operand);
- a branch that leaves the resolution and comes back to a third one;
- ``x + g·(F − x)``: a gate written as an add, with an add of its own inside;
- a shortcut padded by a concat with zeros, at a concat (which of the zeros are the merge's?);
- a learned scale on a shortcut that has a weight already (a learned matrix and its scale: one weighted op, or two?);
- ``stack().mean()``: an add whose scale comes after the merge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from finder.planted_ops import KINDS, Ctx, Shape, size_of


class TwoReadings(Exception):
    """The specs drawn make a combination the definition can be read in two ways for; the draw is thrown away."""


@dataclass(frozen=True)
class Planted:
    """One skip as its planter knows it; the fields are those of `skipgrad.core.graph.Skip`."""

    kind: str
    shortcut: str
    long: bool
    span: int
    fan_in: int
    branches: tuple[tuple[str, ...], ...]
    fork_shape: Shape
    merge_shape: Shape
    owner: str
    fork: str
    start: int
    end: int
    shortcut_modules: tuple[str, ...]
    name: str = ""


@dataclass
class Walk:
    """Where the telling is: the present value, and everything planted so far.

    Attributes:
        shape: of the present value, batch included.
        maker: path of the module whose op made it.
        tail: "add" or "cat" when it is what a merge returned, and nothing else used it.
        layers: matrix-like calls so far.
        weights: (path of the owner, whether matrix-like) per weighted call.
        sizes: spatial sizes passed.
        acts: activation functions passed.
        skips: what was planted.
    """

    shape: Shape
    maker: str = ""
    tail: str = ""
    layers: int = 0
    acts: int = 0
    weights: list[tuple[str, bool]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    skips: list[Planted] = field(default_factory=list)

    def weigh(self, path: str, matrix: bool) -> None:
        """Notes a weighted call."""
        self.weights.append((path, matrix))
        self.layers += matrix

    def named(self) -> list[Planted]:
        """What was planted, named after the owners; the second of an owner is ``#2``."""
        seen: Counter[str] = Counter()
        out = []
        for skip in self.skips:
            base = skip.owner or "root"
            seen[base] += 1
            out.append(replace(skip, name=base if seen[base] == 1 else f"{base}#{seen[base]}"))
        return out

    def made(self, shape: Shape, maker: str, tail: str = "") -> None:
        """Notes the new present value."""
        self.shape, self.maker, self.tail = shape, maker, tail


@dataclass(frozen=True)
class Told:
    """What was met on one branch."""

    weights: tuple[tuple[str, bool], ...]
    skips: int
    left: bool
    acts: int
    shape: Shape
    tail: str
    maker: str
    layers: int

    @property
    def owners(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(p for p, _ in self.weights))

    @property
    def span(self) -> int:
        return sum(m for _, m in self.weights)

    @property
    def long(self) -> bool:
        return self.left or self.skips > 0


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def telling(ctx: Ctx, walk: Walk, tell: Callable[[], None]) -> Told:
    """What `tell` adds to the walk."""
    weights, skips, acts = len(walk.weights), len(walk.skips), walk.acts
    sizes, walk.sizes = walk.sizes, [size_of(ctx, walk.shape)]
    walk.tail = ""
    tell()
    mine, walk.sizes = walk.sizes, [*sizes, *walk.sizes]
    left = mine[-1] == mine[0] and any(s != mine[0] for s in mine)
    planted = len(walk.skips) - skips
    if not left and not planted and mine not in (sorted(mine), sorted(mine, reverse=True)):
        raise TwoReadings("leaves the resolution and comes back to a third one")
    return Told(
        tuple(walk.weights[weights:]), planted, left, walk.acts - acts, walk.shape, walk.tail, walk.maker, walk.layers
    )


class Spec:
    """A part of a net."""

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        """The module, for an input of this shape."""
        raise NotImplementedError

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        """Adds to the walk what the module does: its weights are at `path`, its own ops run in the module `here`."""
        raise NotImplementedError

    def out(self, ctx: Ctx, shape: Shape) -> Shape:
        """The shape of what it returns."""
        walk = Walk(shape, sizes=[size_of(ctx, shape)])
        self.tell(ctx, walk, "", "")
        return walk.shape


@dataclass(frozen=True)
class Plain(Spec):
    """Ops in a row; each is a kind of `planted_ops` with the channels it makes (0: as many as it is given)."""

    ops: tuple[tuple[str, int], ...]

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Plain(self, ctx, shape)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        for k, (kind, out) in enumerate(self.ops):
            rule, child = KINDS[kind], join(path, ctx.name(kind, k))
            for part, matrix in rule.weights(ctx):
                walk.weigh(join(child, part) if part else child, matrix)
            walk.acts += rule.act
            shape = rule.out(ctx, walk.shape, out)
            if rule.does(ctx):
                walk.made(shape, join(child, rule.by) if rule.by else child if ctx.fam in rule.called.split() else here)
            walk.sizes.append(size_of(ctx, shape))


class _Plain(nn.Module):
    def __init__(self, spec: Plain, ctx: Ctx, shape: Shape) -> None:
        super().__init__()
        self.steps = []
        for k, (kind, out) in enumerate(spec.ops):
            child = KINDS[kind].make(ctx, shape, out)
            if child is not None:
                self.add_module(ctx.name(kind, k), child)
            shape = KINDS[kind].out(ctx, shape, out)
            self.steps.append((KINDS[kind].run, ctx.name(kind, k) if child is not None else ""))
        self.ctx = ctx

    def forward(self, x: Tensor) -> Tensor:
        for run, name in self.steps:
            x = run(self.ctx, getattr(self, name) if name else None, x)
        return x


@dataclass(frozen=True)
class Chain(Spec):
    """Parts one after the other: ``sequential``, ``list`` (a ModuleList in an attribute) or ``inline``, where the
    ops of the parts run in the chain's own forward, as the two skips of a transformer block do."""

    parts: tuple[Spec, ...]
    style: str = "sequential"

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        made = []
        for part in self.parts:
            made.append(part.build(ctx, shape))
            shape = part.out(ctx, shape)
        return nn.Sequential(*made) if self.style == "sequential" else _Chain(made, self.style, ctx)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        for k, part in enumerate(self.parts):
            child = join(path, str(k) if self.style == "sequential" else f"{ctx.name('blocks', 0)}.{k}")
            part.tell(ctx, walk, child, here if self.style == "inline" else child)


class _Chain(nn.Module):
    def __init__(self, parts: list[nn.Module], style: str, ctx: Ctx) -> None:
        super().__init__()
        self.held, self.inline = ctx.name("blocks", 0), style == "inline"
        self.add_module(self.held, nn.ModuleList(parts))

    def forward(self, x: Tensor) -> Tensor:
        for part in getattr(self, self.held):
            # Its forward alone does not enter the module: the ops count as this module's own.
            x = part.forward(x) if self.inline else part(x)
        return x


@dataclass(frozen=True)
class Repeat(Spec):
    """One module called several times."""

    part: Spec
    times: int

    def build(self, ctx: Ctx, shape: Shape) -> nn.Module:
        return _Repeat(self.part.build(ctx, shape), self.times)

    def tell(self, ctx: Ctx, walk: Walk, path: str, here: str) -> None:
        for _ in range(self.times):
            self.part.tell(ctx, walk, join(path, "again"), join(path, "again"))


class _Repeat(nn.Module):
    def __init__(self, part: nn.Module, times: int) -> None:
        super().__init__()
        self.again, self.times = part, times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.again(x)
        return x
