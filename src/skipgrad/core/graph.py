"""The records `find` returns: what skips a model has, and where. Plain data, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from skipgrad.core.clean import Unclean, unclean
from skipgrad.core.draw.html import html
from skipgrad.core.errors import BadInput

SCHEMA = 1

Kind = Literal["add", "concat", "gate", "index"]
Shortcut = Literal["identity", "scaled", "slice", "pool", "resample", "projection"]
OtherKind = Literal["parallel", "injection", "gate"]

KINDS: tuple[str, ...] = get_args(Kind)
SHORTCUTS: tuple[str, ...] = get_args(Shortcut)


@dataclass(frozen=True)
class Layer:
    """One call of a matrix-like weighted op (convolution, linear, embedding, recurrent cell).

    Attributes:
        name: path of the module that owns the weight; ``#2`` is added at its second call, and so on.
        op: the op, e.g. ``"conv2d"``.
        out_shape: shape of what it returns.
        stage: the part of the network it belongs to (the first components of its path), for drawings.
    """

    name: str
    op: str
    out_shape: tuple[int, ...]
    stage: str


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
class SkipGraph:
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
    # The trace it was found in, so that a watch need not trace again. Never serialized.
    trace: Any = field(default=None, compare=False, repr=False)

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
        from skipgrad.core.registry import nearest

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

    @property
    def unclean(self) -> tuple[Unclean, ...]:
        """What is not clean on the shortcuts and between the skips, each with the reason (`core.clean`)."""
        return unclean(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentence, the drawing, the skips and the rest folded below."""
        return html(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `to_json` writes it; ``unclean`` follows from the skips, and is there for other programs."""
        data: dict[str, Any] = {"schema": SCHEMA}
        for f in fields(self):
            if f.name != "trace":
                value = getattr(self, f.name)
                if isinstance(value, tuple):
                    value = [asdict(v) if hasattr(v, "__dataclass_fields__") else v for v in value]
                data[f.name] = value
        data["unclean"] = [asdict(u) for u in self.unclean]
        return data

    def to_json(self, indent: int | None = 2) -> str:
        """JSON with a schema version; `from_json` reads it back to an equal graph."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str) -> SkipGraph:
        """Reads what `to_json` wrote.

        Raises:
            BadInput: text that is not such JSON, or of another schema version.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise BadInput(
                "reading a SkipGraph",
                received=f"text that is not JSON ({error})",
                todo="pass what SkipGraph.to_json() or `skipgrad find --json` wrote",
            ) from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            received = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise BadInput(
                "reading a SkipGraph",
                received=f"schema {received!r}, expected {SCHEMA}",
                todo="write it again with this version's `skipgrad find --json`",
            )
        if not isinstance(data.get("skips"), list):
            raise BadInput(
                "reading a SkipGraph",
                received="an object without a list of skips",
                todo="pass what SkipGraph.to_json() or `skipgrad find --json` wrote",
            )
        kinds = {"skips": Skip, "others": Other, "unknown": Unknown, "layers": Layer, "suggestions": Suggestion}
        try:
            values: dict[str, Any] = {k: v for k, v in data.items() if k not in ("schema", "unclean")}
            for key, record in kinds.items():
                values[key] = tuple(record(**{k: _tupled(v) for k, v in d.items()}) for d in values.get(key, ()))
            values["notes"] = tuple(values.get("notes", ()))
            return cls(**values)
        except (TypeError, AttributeError) as error:
            raise BadInput(
                "reading a SkipGraph",
                received=f"fields that do not fit ({error})",
                todo="pass what SkipGraph.to_json() or `skipgrad find --json` wrote",
            ) from error


def _tupled(value: Any) -> Any:
    return tuple(_tupled(v) for v in value) if isinstance(value, list) else value
