"""What `gradient_table` returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import nearest
from skipgrad.probes.table.draw import html, text
from skipgrad.probes.table.records import GradientRow, Mode


@dataclass(frozen=True, eq=False)
class GradientTable:
    """The gradient of each layer, a row for every mode in which it differs. ``print(table)`` shows it.

    Attributes:
        rows: in the order of the layers, training before evaluation.
        dtype: in which everything was computed.
        seed: of the inputs and gradients that were drawn.
    """

    rows: tuple[GradientRow, ...]
    dtype: str
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[GradientRow]:
        return iter(self.rows)

    def row(self, layer: str, mode: Mode = "training") -> GradientRow:
        """The row of a layer in a mode.

        Raises:
            BadInput: a name or mode that is none.
        """
        if mode not in ("training", "evaluation", "both"):
            raise BadInput(
                "looking up a row of the gradient table",
                where="mode",
                received=repr(mode),
                todo="pass 'training' or 'evaluation'",
            )
        for row in self.rows:
            if row.layer == layer and (row.mode in (mode, "both") or mode == "both"):
                return row
        raise BadInput(
            "looking up a row of the gradient table",
            received=f"no layer {layer!r} among {len(self.rows)} rows",
            todo=nearest(layer, dict.fromkeys(r.layer for r in self.rows)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data: all but the tensors."""
        return {"dtype": self.dtype, "seed": self.seed, "rows": [row.to_dict() for row in self.rows]}

    def __str__(self) -> str:
        return text(self.rows, self.dtype, self.seed)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html(self.rows, self.dtype, self.seed)
