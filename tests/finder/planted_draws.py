"""Hypothesis draws a planted net: a `Ctx`, an input shape and a tree of specs that fits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st
from torch import nn

from finder.planted import Chain, Plain, Planted, Repeat, Spec, Told, TwoReadings, Walk, telling
from finder.planted_ops import KINDS, Ctx, Shape, size_of
from finder.planted_others import DECOYS, GATES, SPLITS, Decoy, Dense, Gate, Index, Split
from finder.planted_residual import (
    ADDS_OF_MANY,
    ADDS_OF_TOKENS,
    ADDS_OF_TWO,
    CATS,
    SHORTCUTS,
    Residual,
)

MATRICES = {
    "image": ("conv", "conv1", "mix", "matmul", "glu", "gated", "squeeze"),
    "signal": ("conv", "conv1", "mix", "matmul", "glu", "gated", "squeeze"),
    "tokens": ("conv", "mix", "matmul", "attention", "gru", "glu", "gated", "squeeze"),
}
WIDENING = {
    "image": ("conv", "conv1", "matmul"), "signal": ("conv", "conv1", "matmul"), "tokens": ("conv", "matmul", "gru"),
}  # fmt: skip
NORMS = ("norm", "plain norm", "group", "layer")
ACTS = ("relu", "relu_", "gelu", "prelu", "tanh", "silu", "softmax", "hardswish", "leaky")
ASIDE = ("view", "reshape", "permute", "unsqueeze", "dropout", "half", "scale")
DOWN = (("down", ""), ("down pool", "conv"), ("down max", "conv"), ("down resample", "conv"))
UP = (("up", "conv"), ("up conv", ""))


@dataclass(frozen=True)
class Net:
    """A drawn net.

    Attributes:
        ctx: family, mode, names.
        shape: of the input, batch included.
        spec: the tree.
    """

    ctx: Ctx
    shape: Shape
    spec: Spec

    def module(self) -> nn.Module:
        """Builds it, in its mode."""
        return self.spec.build(self.ctx, self.shape).train(self.ctx.training)

    def planted(self) -> list[Planted]:
        """What was planted, in order of the merges, with names."""
        walk = Walk(self.shape)
        telling(self.ctx, walk, lambda: self.spec.tell(self.ctx, walk, "", ""))
        return walk.named()


class Draw:
    """Draws the parts of one net."""

    def __init__(self, draw: Any, ctx: Ctx) -> None:
        self.draw, self.ctx = draw, ctx
        self.cut = False  # a part of a chunk may not be changed in place

    def pick(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def flag(self) -> bool:
        return self.draw(st.booleans())

    def some(self, most: int, least: int = 0) -> int:
        return self.draw(st.integers(least, most))

    # -- plain parts -----------------------------------------------------------------------------

    def aside(self) -> list[tuple[str, int]]:
        return [(self.pick(ASIDE), 0)] if self.some(2) == 2 else []

    def plain(self, shape: Shape, out: int = 0, res: str = "same", act: bool | None = None) -> Plain:
        """At least one layer; `out` channels; resolution as it was, halved (down), doubled (up)."""
        ctx = self.ctx
        ops = self.aside()
        if self.flag():
            ops.append((self.pick(NORMS), 0))
        if self.some(3) == 3:
            ops.append((self.pick([a for a in ACTS if a != "relu_"]), 0))
        if res == "same":
            own = out not in (0, shape[ctx.axis])
            ops.append((self.pick(WIDENING[ctx.fam]), out) if own else (self.pick(MATRICES[ctx.fam]), 0))
        else:
            resize, then = self.pick(DOWN if res == "down" else UP)
            ops += [(resize, 0), (then, out)] if then else [(resize, out)]
        if self.some(2) == 2:
            ops.append((self.pick(NORMS), 0))
        if act or (act is None and self.flag()):
            ops.append((self.pick(ACTS), 0))
        if self.some(3) == 3:
            ops.append((self.pick(MATRICES[ctx.fam]), 0))
        ops += self.aside()
        return Plain(tuple(ops))

    # -- branches ----------------------------------------------------------------------------------

    def branch(self, shape: Shape, depth: int, *, res: str = "same", out: int = 0, closed: bool = False) -> Spec:
        """A branch: layers first, then perhaps parts with skips; `closed` ends it with layers and an activation."""
        ctx = self.ctx
        out = out or shape[ctx.axis]
        inner = self.some(2) if depth > 0 else 0
        round_trip = res == "round"
        # Each entry of a list of parts changes shape; what follows must know the shape it gets.
        parts: list[Spec] = []

        def add(part: Spec) -> None:
            nonlocal shape
            parts.append(part)
            shape = part.out(ctx, shape)

        up_first = round_trip and self.some(3) == 3
        first = {"round": "up" if up_first else "down"}.get(res, res)
        add(self.plain(shape, 0 if inner or round_trip else out, first, act=closed or None))
        for _ in range(inner):
            add(self.part(shape, depth - 1))
        if round_trip:
            add(self.plain(shape, out, "down" if up_first else "up"))
        if shape[ctx.axis] != out or (closed and (inner or round_trip)):
            add(self.plain(shape, out, act=True))
        return parts[0] if len(parts) == 1 else Chain(tuple(parts), self.style())

    def style(self) -> str:
        return self.pick(("sequential", "list", "inline"))

    # -- parts with skips --------------------------------------------------------------------------

    def part(self, shape: Shape, depth: int) -> Spec:
        """Any part; it keeps the resolution, and perhaps not the channels."""
        wide = shape[self.ctx.axis]
        kinds = ["plain", "add", "add", "add", "many", "concat", "gate", "decoy", "broadcast"]
        if wide % 4 == 0:
            kinds += ["split", "chunk"]
        if wide <= 16:
            kinds += ["dense"]
        if self.ctx.fam != "tokens" and min(shape[2:]) >= 4:
            kinds += ["unet", "index"]
        if depth > 0:
            kinds += ["repeat", "chain"]
        made = getattr(self, f"_{self.pick(kinds)}")(shape, depth)
        try:
            made.out(self.ctx, shape)
        except TwoReadings:
            reject()
        return made

    def _plain(self, shape: Shape, depth: int) -> Spec:
        return self.plain(shape)

    def _chunk(self, shape: Shape, depth: int) -> Spec:
        self.cut = True
        return Plain((("chunk", 0),))

    def _chain(self, shape: Shape, depth: int) -> Spec:
        parts = []
        for _ in range(self.some(3, 1)):
            parts.append(self.part(shape, depth - 1))
            shape = parts[-1].out(self.ctx, shape)
        return Chain(tuple(parts), self.style())

    def _repeat(self, shape: Shape, depth: int) -> Spec:
        branch = self.branch(shape, depth - 1)
        part = self.residual(shape, (branch,), ADDS_OF_TWO)
        return Repeat(part, self.some(3, 2))

    def residual(self, shape: Shape, branches: tuple[Spec, ...], merges: Sequence[str], **kw: Any) -> Residual:
        """A shortcut that fits, and a way to write the merge that does."""
        ctx = self.ctx
        to = branches[0].out(ctx, shape)
        heavy = min(len(self.told(shape, branch).weights) for branch in branches)
        merge = self.pick(merges)
        merge = "+" if merge in ("+=", "method") and self.cut else merge
        concat = merge in (*CATS, "hstack", "pairs")
        a, b, before, after = shape[ctx.axis], to[ctx.axis], size_of(ctx, shape), size_of(ctx, to)
        channels = "same" if a == b else "fewer" if b < a else "more"
        res = "same" if before == after else "down" if before > after else "up"
        fits = [
            kind
            for kind, (label, weights, wide, sizes) in SHORTCUTS.items()
            if res in sizes.split()
            and (channels in wide.split() or (concat and wide == "same"))
            and len(weights) < heavy
            and not (concat and ("pool" in kind or kind == "zeros"))
            and not (merge == "mix learned" and weights)  # two weighted ops: no shortcut
            and not (len(branches) > 1 and label == "projection")  # two linear paths beside others
        ]
        if "identity" in fits and self.flag():  # by far the most usual: half of all draws
            fits = ["identity"]
        if not fits:
            reject()
        short = self.pick(fits)
        late = self.flag() and not (concat and len(branches) > 1)  # the newest operand is to be a branch
        return Residual(branches, short, merge, self.flag(), late, **kw)

    def told(self, shape: Shape, part: Spec) -> Told:
        walk = Walk(shape)
        return telling(self.ctx, walk, lambda: part.tell(self.ctx, walk, "", ""))

    def adds(self) -> tuple[str, ...]:
        return ADDS_OF_TWO + (ADDS_OF_TOKENS if self.ctx.fam == "tokens" else ())

    def _add(self, shape: Shape, depth: int) -> Spec:
        out = self.pick((0, 0, 0, 4, 8))
        return self.residual(shape, (self.branch(shape, depth, out=out),), self.adds())

    def _many(self, shape: Shape, depth: int) -> Spec:
        concat = self.some(3) == 3
        branches = tuple(self.branch(shape, 0 if concat else depth, closed=True) for _ in range(self.some(3, 2)))
        merges = (*CATS, "pairs") if concat else ADDS_OF_MANY
        return self.residual(shape, branches, merges, pre=self.flag())

    def cats(self) -> tuple[str, ...]:
        return CATS + (("hstack",) if self.ctx.axis == 1 else ())

    def _concat(self, shape: Shape, depth: int) -> Spec:
        out = self.pick((0, 4, 8))
        return self.residual(shape, (self.branch(shape, depth, out=out),), self.cats())

    def _unet(self, shape: Shape, depth: int) -> Spec:
        merges = self.cats() if self.flag() else self.adds()
        return self.residual(shape, (self.branch(shape, depth, res="round"),), merges)

    def _gate(self, shape: Shape, depth: int) -> Spec:
        return Gate(self.branch(shape, depth), self.pick(GATES), self.flag())

    def _index(self, shape: Shape, depth: int) -> Spec:
        return Index(self.branch((*shape[:2], *(s // 2 for s in shape[2:])), depth))

    def _split(self, shape: Shape, depth: int) -> Spec:
        ctx = self.ctx
        half = (*shape[: ctx.axis], shape[ctx.axis] // 2, *shape[ctx.axis + 1 :])
        return Split(self.branch(half, depth), self.pick(SPLITS), self.flag())

    def _dense(self, shape: Shape, depth: int) -> Spec:
        parts: list[Spec] = []
        for _ in range(self.some(3, 1)):
            parts.append(self.branch(shape, depth - 1, out=4, closed=self.flag()))
            shape = (*shape[: self.ctx.axis], shape[self.ctx.axis] + 4, *shape[self.ctx.axis + 1 :])
        return Dense(tuple(parts), self.flag())

    def _broadcast(self, shape: Shape, depth: int) -> Spec:
        """``x + F(pool(x))``: the branch is broadcast."""
        matrices = [k for k in MATRICES[self.ctx.fam] if k not in ("mix", "attention", "gru", "squeeze")]
        ops = [("global pool", 0), (self.pick(matrices), 0), (self.pick(ACTS), 0)]
        return Residual((Plain(tuple(ops)),), "identity", self.pick(("+", "torch.add", "sub")), self.flag())

    def _decoy(self, shape: Shape, depth: int) -> Spec:
        kinds = [k for k in DECOYS if k != "gru" or self.ctx.fam == "tokens"]
        kind = self.pick(kinds)
        count = {"equal": 0, "position": 0, "buffer": 0, "modulated": 0}.get(kind, 1)
        if kind.startswith("parallel"):
            count = self.some(3, 2)
        return Decoy(kind, tuple(self.branch(shape, depth - 1, closed=True) for _ in range(count)))

    # -- downsampling stages -----------------------------------------------------------------------

    def stage(self, shape: Shape, depth: int) -> Spec:
        """A residual block that changes the resolution."""
        res = "down" if self.some(3) else "up"
        out = self.pick((0, 8)) if res == "down" else 0
        return self.residual(shape, (self.branch(shape, depth, res=res, out=out),), ADDS_OF_TWO)


@st.composite
def nets(draw: Any, depth: int = 2, training: bool | None = None) -> Net:
    """A net with what was planted in it."""
    fam = draw(st.sampled_from(("image", "tokens", "signal")))
    ctx = Ctx(fam, draw(st.booleans()) if training is None else training)
    d = Draw(draw, ctx)
    wide, batch = d.pick((4, 8)), d.some(3, 2)
    shape = {"image": (batch, wide, 8, 8), "signal": (batch, wide, 16), "tokens": (batch, 6, wide)}[fam]
    net = shape
    # The input itself may be a fork, but no op may change it in place.
    parts: list[Spec] = [d.plain(shape)]
    shape = parts[0].out(ctx, shape)
    try:
        for _ in range(d.some(4, 1)):
            staged = fam != "tokens" and min(shape[2:]) in (4, 8, 16) and d.some(5) == 5
            parts.append(d.stage(shape, depth) if staged else d.part(shape, depth))
            shape = parts[-1].out(ctx, shape)
        spec = Chain((*parts, d.plain(shape)), d.style())
        spec.out(ctx, net)
    except TwoReadings:
        reject()
    return Net(ctx, net, spec)


assert {k for ks in (*MATRICES.values(), NORMS, ACTS, ASIDE) for k in ks} <= KINDS.keys()
