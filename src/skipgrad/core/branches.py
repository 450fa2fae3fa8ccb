"""Which branches may be edited at their last weighted module, read from the graph alone: for remedies and diagnosis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from skipgrad.core.graph import Skip, SkipGraph
from skipgrad.core.skips import owner_of

# Ops that map 0 to 0 and let a gradient through at 0. A product is one of them: its other factor is then a
# constant or a gate. GELU, SiLU … have slope 1/2 at 0.
_MOVES = """
    view reshape permute transpose flatten unflatten contiguous squeeze unsqueeze clone to type_as type float half
    bfloat16 double movedim moveaxis swapaxes swapdims t T mT alias view_as reshape_as ravel identity roll flip
    as_strided channel_shuffle native_channel_shuffle getitem narrow select split chunk unbind index_select gather
    tensor_split split_with_sizes pad constant_pad_nd unfold slice output copy setitem slice_scatter
    mul div neg dropout dropout1d dropout2d dropout3d feature_dropout stochastic_depth native_dropout
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean sum
    max_pool1d max_pool2d max_pool3d interpolate upsample pixel_shuffle pixel_unshuffle repeat repeat_interleave
    expand expand_as tile broadcast_to gelu silu mish selu elu celu leaky_relu
"""
_BOUNDED = "tanh hardswish hardtanh softsign sin asin atan erf sinh asinh"
_DEAD = "relu relu6 clamp clip clamp_min clamp_max threshold hardshrink softshrink abs square tanhshrink"
_PASSES_ZERO = frozenset((_MOVES + _BOUNDED).split())
_DEAD_AT_ZERO = frozenset(_DEAD.split())
# A factor on the last layer still scales the branch behind these: exactly behind the moves, nearly behind GELU.
_PASSES_FACTOR = frozenset(_MOVES.split()) | {"relu", "abs", "maximum", "amax"}

Judge = Callable[[str], str | None]


def stops_zero(op: str) -> str | None:
    """Why a branch that ends in ``op`` must not be zeroed before it; None when it may."""
    if op in _DEAD_AT_ZERO:
        return f"the {op} behind its last layer has no gradient at 0: the branch would stay dead for ever"
    if op in _PASSES_ZERO:
        return None
    if op in ("add", "sub", "cat", "stack"):
        return f"its last layer is inside another merge ({op}): zeroing it does not zero the branch"
    return f"it is not known that the {op} behind its last layer keeps 0 at 0 with a gradient"


def stops_factor(op: str) -> str | None:
    """Why a factor on the last layer does not scale a branch that ends in ``op``; None when it does."""
    if op in _PASSES_FACTOR:
        return None
    if op in ("add", "sub", "cat", "stack"):
        return f"its last layer is inside another merge ({op}): a factor there does not scale the branch"
    return f"the {op} behind its last layer does not pass a factor on"


@dataclass(frozen=True)
class Left:
    """A skip (or a place for one) that is left alone, and why."""

    skip: str
    reason: str

    def __str__(self) -> str:
        return f"{self.skip}: left alone, {self.reason}"


@dataclass(frozen=True)
class Ends:
    """The last weighted modules of identity-skip branches.

    Attributes:
        skips: per module path, the skips that have a branch ending there, once per such branch.
        left: skips (or branches) left alone.
        total: number of identity-skip adds in the graph: L.
    """

    skips: dict[str, tuple[str, ...]]
    left: tuple[Left, ...]
    total: int


def strip_call(name: str) -> str:
    """A module's path without the ``#2`` of its second call."""
    head, mark, tail = name.rpartition("#")
    return head if mark and tail.isdigit() else name


def identity_adds(graph: SkipGraph) -> list[Skip]:
    """The skips y = x + F(x) whose shortcut is the identity."""
    return [s for s in graph.skips if s.kind == "add" and s.shortcut == "identity"]


def branch_ends(graph: SkipGraph, judge: Judge) -> Ends:
    """The ends of identity-skip branches that ``judge`` lets pass and that nothing else uses.

    Args:
        graph: the skips.
        judge: gives the reason why an op between the end and the merge forbids the edit, or None.
    """
    adds = identity_adds(graph)
    chosen = {s.name for s in adds}
    left: list[Left] = []
    ends: dict[str, list[str]] = {}
    for skip in adds:
        for i, branch in enumerate(skip.branches):
            tail = skip.tails[i] if i < len(skip.tails) else ()
            reason = next((r for op in tail if (r := judge(op)) is not None), None)
            if not branch:
                reason = "the finder named no module on its branch"
            if reason is not None:
                left.append(Left(skip.name, reason))
            else:
                ends.setdefault(strip_call(branch[-1]), []).append(skip.name)
    modules = {strip_call(p) for s in graph.skips for branch in (*s.branches, s.shortcut_modules) for p in branch}
    calls = Counter(owner_of(layer.name, modules) for layer in graph.layers)
    for path in list(ends):
        user = _other_user(graph, path, ends[path], calls)
        if user is not None:
            left += [
                Left(name, f"its last layer {path!r} is used {user} too") for name in dict.fromkeys(ends.pop(path))
            ]
    left += [Left(s.name, _why_not(s)) for s in graph.skips if s.name not in chosen]
    return Ends({path: tuple(names) for path, names in ends.items()}, tuple(left), len(adds))


def _why_not(skip: Skip) -> str:
    if skip.kind != "add":
        return f"its merge is a {skip.kind}, not an add"
    return f"its shortcut is a {skip.shortcut}, not the identity"


def _other_user(graph: SkipGraph, path: str, skips: list[str], calls: Counter[str]) -> str | None:
    """Where else the module at ``path`` works, beyond the ends of these skips' branches; None: nowhere."""
    if calls[path] > len(skips):
        return f"in {calls[path] - len(skips)} more place{'s' if calls[path] - len(skips) > 1 else ''} of the forward"
    mine = [s for s in graph.skips if s.name in skips]
    for skip in graph.skips:
        if path in map(strip_call, skip.shortcut_modules):
            return f"on the shortcut of {skip.name}"
        if skip.name in skips or all(skip.start <= m.start and m.end <= skip.end for m in mine):
            continue  # a longer skip around this one: its branch holds the same call
        if any(path == strip_call(p) for branch in skip.branches for p in branch):
            return f"on the branch of {skip.name}"
    for skip in mine:
        if any(path == strip_call(p) for branch in skip.branches for p in branch[:-1]) and not calls[path]:
            return f"earlier on the branch of {skip.name}"
    return None
