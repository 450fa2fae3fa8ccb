"""Which shortcuts are not clean: what lies on the way along them that need not, and why that matters.

A gradient that goes back along a clean shortcut arrives as it left (He et al. 2016, Identity mappings in deep residual
networks). What a change of shape asks for (a projection between two stages) is not held against a shortcut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from skipgrad.core.skips import Skip, Skips
from skipgrad.core.units import shape

Why = Literal[
    "norm after merge",
    "activation after merge",
    "scaled",
    "norm",
    "dropout",
    "gate",
    "projection",
    "pool",
    "slice",
    "resample",
    "index",
]

# What scales x on its way, whatever does it.
SCALING: frozenset[Why] = frozenset(("scaled", "norm", "dropout", "gate"))

_NORMS = ("_norm", "rsqrt")
_NO_NORMS = ("vector_norm", "matrix_norm", "linalg_norm")
_ACTIVATIONS = frozenset(
    ("relu", "relu6", "leaky_relu", "gelu", "silu", "mish", "selu", "elu", "celu", "prelu", "rrelu", "hardswish")
)
_LAYERS = ("conv", "linear", "matmul", "addmm", "einsum", "bmm", "embedding")


@dataclass(frozen=True)
class Unclean:
    """One thing that makes a shortcut unclean; a skip may have several.

    Attributes:
        skip: its name.
        why: the sort of thing.
        reason: one sentence.
    """

    skip: str
    why: Why
    reason: str


def unclean(graph: Skips) -> tuple[Unclean, ...]:
    """What is not clean on the shortcuts of a graph and between its skips, in order of execution."""
    by_name = {s.name: s for s in graph.skips}
    out: list[Unclean] = []
    for s in graph.skips:
        found = (*_between(s, by_name.get(s.previous or "")), *_on_the_way(s))
        out += [Unclean(s.name, why, reason) for why, reason in found]
    return tuple(out)


def _between(skip: Skip, before: Skip | None) -> Iterator[tuple[Why, str]]:
    """What every gradient passes between the merge of the skip before and this fork."""
    # Between the skips of one stream: a long or concat skip that starts behind the same activation repeats nothing.
    if skip.long or skip.kind not in ("add", "gate"):
        return
    # With a layer or a change of shape in between it is a transition from stage to stage, which may be normed.
    if before is None or before.merge_shape != skip.fork_shape or any(op.startswith(_LAYERS) for op in skip.trunk):
        return
    at = before.name
    if any(map(_is_norm, skip.trunk)):
        yield "norm after merge", f"a norm follows the merge of {at} (post-norm), and the gradient passes it"
        return
    for op in (op.rstrip("_") for op in skip.trunk):
        if op in _ACTIVATIONS:
            yield (
                "activation after merge",
                f"{op} follows the merge of {at} (post-activation) and stops part of the gradient",
            )
            return


def _on_the_way(skip: Skip) -> Iterator[tuple[Why, str]]:
    """What the shortcut itself does to x that the shapes do not ask for."""
    ops = ", ".join(dict.fromkeys(op.rstrip("_") for op in skip.shortcut_ops))
    by = f" ({ops})" if ops else ""
    same = skip.fork_shape == skip.merge_shape
    # The operands of a concat differ in the channels; what tells is the rest of the shape.
    kept = same or (skip.kind == "concat" and skip.fork_shape[2:] == skip.merge_shape[2:])
    if skip.kind == "gate":
        yield "gate", "x is multiplied by 1 − g, below one wherever the gate is open, and its gradient with it"
    elif skip.kind == "index":
        yield "index", "only the places of the maxima go along it; no gradient does"
        return
    elif skip.shortcut == "scaled":
        if any("dropout" in op for op in skip.shortcut_ops):
            yield "dropout", "dropout lies on the shortcut: part of x, and of its gradient, is lost at every step"
        elif any(map(_is_norm, skip.shortcut_ops)):
            yield "norm", "a norm lies on the shortcut and changes the size of the gradient"
        else:
            yield "scaled", f"x is scaled on the shortcut{by}; the factors multiply over the skips"
    if skip.shortcut == "projection" and same:
        weights = f" ({', '.join(skip.shortcut_modules[:2])})" if skip.shortcut_modules else ""
        yield (
            "projection",
            f"x is projected{weights} although it keeps its shape {shape(skip.fork_shape)}; an identity fits",
        )
    elif skip.shortcut == "slice" and (skip.kind == "concat" or kept):
        yield "slice", f"only a part of x goes along it{by}"
    elif skip.shortcut == "pool" and kept:
        yield "pool", f"x is pooled on the shortcut{by} although its shape stays"
    elif skip.shortcut == "resample" and kept:
        yield "resample", f"x is resampled on the shortcut{by} although its shape stays"


def _is_norm(op: str) -> bool:
    return op.endswith(_NORMS) and not op.endswith(_NO_NORMS)
