"""The records of skip connections: plain data, for whatever judges or draws them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import nearest

Kind = Literal["add", "concat", "gate", "index"]
Shortcut = Literal["identity", "scaled", "slice", "pool", "resample", "projection"]
OtherKind = Literal["parallel", "injection", "gate"]

KINDS: tuple[str, ...] = get_args(Kind)
SHORTCUTS: tuple[str, ...] = get_args(Shortcut)


@dataclass(frozen=True)
class Layer:
    """One call of a matrix-like weighted op (convolution, linear, embedding, recurrent cell).

    Attributes:
        name: path of the module that owns the weight; of the weight itself where its owner has several
            (``experts.w1``), with the part of it that is taken (``attn.qkv[8:16]``). ``#2`` is added at the second call
            of the same weight, and so on.
        op: the op, e.g. ``"conv2d"``.
        out_shape: shape of what it returns.
        stage: the part of the network it belongs to (the first components of its path), for drawings.
    """

    name: str
    op: str
    out_shape: tuple[int, ...]
    stage: str


def owner_of(layer: str, modules: Collection[str]) -> str:
    """Which of some modules the weight of a layer belongs to, the layer's own name when it is none of theirs.

    >>> [owner_of(name, {"conv", "experts"}) for name in ("conv#2", "experts.w1", "experts.w2[3]#2", "head")]
    ['conv', 'experts', 'experts', 'head']
    """
    name = layer.split("#")[0]
    head = name.split("[")[0].rpartition(".")[0]
    return head if head and name not in modules and head in modules else name


@dataclass(frozen=True)
class Skip:
    """One skip connection: a fork and a merge joined by a shortcut and by branches with weights.

    Attributes:
        name: unique; the path of the module that owns the merge (``layer1.0``), with ``#2``, ``#3`` …
            for the second and third merge of the same owner, in order of execution. Merges in the
            forward of the model itself are called ``root``.
        kind: how the paths meet.
        shortcut: what the shortcut does to x on its way.
        long: the branch contains another whole skip, or leaves the resolution and comes back.
        span: matrix-like weighted ops on the branch (the longest one, when there are several).
        fan_in: operands of the merge.
        branches: per branch, the paths of the modules that own its weighted ops (norms and learned
            scales too), in order of execution.
        fork_shape: shape of x, the latest activation both paths start from.
        merge_shape: shape of what the merge returns.
        owner: path of the module that owns the merge (``""`` for the model itself).
        fork: path of the module whose op made x (``""``: the model's own forward, or its input).
        start: number of layers executed before x was there; position of the fork in `SkipGraph.layers`.
        end: number of layers executed when the merge runs.
        shortcut_ops: ops on the shortcut, in order, views left out.
        shortcut_modules: paths of the modules that own weights on the shortcut.
        tails: per branch, the ops between its last weighted op and the merge.
        trunk: ops that change x between the merge of the skip before (the one whose output leads to this
            fork with no branch in between) and this fork: ``("relu",)``, ``("layer_norm",)``, ``()``.
        previous: name of that skip before; None for the first of a run.
    """

    name: str
    kind: Kind
    shortcut: Shortcut
    long: bool
    span: int
    fan_in: int
    branches: tuple[tuple[str, ...], ...]
    fork_shape: tuple[int, ...]
    merge_shape: tuple[int, ...]
    owner: str = ""
    fork: str = ""
    start: int = 0
    end: int = 0
    shortcut_ops: tuple[str, ...] = ()
    shortcut_modules: tuple[str, ...] = ()
    tails: tuple[tuple[str, ...], ...] = ()
    trunk: tuple[str, ...] = ()
    previous: str | None = None


@dataclass(frozen=True)
class Other:
    """A merge that is no skip connection, listed so that nobody wonders.

    Attributes:
        name: path of the module that owns it.
        kind: ``"parallel"`` (branches side by side, no shortcut), ``"injection"`` (a bias, position or
            conditioning is added) or ``"gate"`` (a product of two paths with no additive shortcut).
        reason: one sentence.
    """

    name: str
    kind: OtherKind
    reason: str


@dataclass(frozen=True)
class Unknown:
    """An op the finder has no rule for; paths through it are taken as non-linear and weightless."""

    op: str
    module: str
    count: int = 1


@dataclass(frozen=True)
class Suggestion:
    """A run of layers without a skip which one could bridge.

    Attributes:
        first: module whose *input* would be the fork.
        last: module whose *output* the shortcut would be added to.
        span: matrix-like weighted ops it would bridge.
        fork_shape: shape of the fork.
        merge_shape: shape of the merge.
        shortcut: ``"identity"`` where the shapes agree, else ``"projection"``.
        reason: one sentence: why here, and why this shortcut; empty in graphs of earlier versions.
    """

    first: str
    last: str
    span: int
    fork_shape: tuple[int, ...]
    merge_shape: tuple[int, ...]
    shortcut: Shortcut
    reason: str = ""


@dataclass(frozen=True)
class Skips:
    """Every skip connection of a model, in order of execution of the merges.

    Attributes:
        skips: the skips.
        others: merges that are none, with the reason.
        unknown: ops without a rule.
        layers: matrix-like weighted layers in order of execution.
        suggestions: where skips could be added.
        model: what the model is called.
        inputs: shapes and dtypes it was traced with, as text.
        how: ``"meta"``, ``"fake"`` or ``"real"`` – the kind of tensors it was traced with.
        training: whether it was traced in training mode.
        notes: what was surprising (a fall-back, a module that did not run).
    """

    skips: tuple[Skip, ...]
    others: tuple[Other, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    layers: tuple[Layer, ...] = ()
    suggestions: tuple[Suggestion, ...] = ()
    model: str = ""
    inputs: str = ""
    how: str = "meta"
    training: bool = True
    notes: tuple[str, ...] = ()
    # What it was found in (trace and matches), so that a watch need not trace again. Never serialized.
    found: Any = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.skips)

    def __bool__(self) -> bool:
        return True  # a graph of a plain net has no skips, and is a graph all the same

    def __iter__(self) -> Iterator[Skip]:
        return iter(self.skips)

    def __getitem__(self, name: str) -> Skip:
        for skip in self.skips:
            if skip.name == name:
                return skip
        raise BadInput(
            f"looking up the skip {name!r}",
            received=f"no skip of that name among {len(self.skips)}",
            todo=nearest(name, [s.name for s in self.skips]),
        )

    def count(self, kind: str | None = None, *, shortcut: str | None = None, long: bool | None = None) -> int:
        """Number of skips with the given kind, shortcut and length (each optional)."""
        return sum(
            (kind is None or s.kind == kind)
            and (shortcut is None or s.shortcut == shortcut)
            and (long is None or s.long == long)
            for s in self.skips
        )
