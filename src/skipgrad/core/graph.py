"""What `find` returns: the skips of a model, which show, judge, write and read themselves. No torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from skipgrad.core.clean import Unclean, unclean
from skipgrad.core.draw.html import html
from skipgrad.core.errors import BadInput
from skipgrad.core.skips import (
    KINDS,
    SHORTCUTS,
    Kind,
    Layer,
    Other,
    OtherKind,
    Shortcut,
    Skip,
    Skips,
    Suggestion,
    Unknown,
)

__all__ = [
    "KINDS",
    "SCHEMA",
    "SHORTCUTS",
    "Kind",
    "Layer",
    "Other",
    "OtherKind",
    "Shortcut",
    "Skip",
    "SkipGraph",
    "Suggestion",
    "Unknown",
]

SCHEMA = 1


@dataclass(frozen=True)
class SkipGraph(Skips):
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
            if f.name != "found":
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
