"""The records of a gradient table: a row, a term."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

Mode = Literal["training", "evaluation", "both"]


@dataclass(frozen=True, eq=False)
class Term:
    """One term of a formula.

    Attributes:
        path: the way this part of the gradient took, e.g. ``"through the mean"``.
        formula: as text.
        gradient: of the shape of x; the terms of a row add up to its `by_formula`.
        size: ‖gradient‖ / ‖dL/dx‖.
    """

    path: str
    formula: str
    gradient: Tensor
    size: float


@dataclass(frozen=True, eq=False)
class GradientRow:
    """dL/dx of one layer in one mode: measured, by the formula, by the popular formula.

    An error is ‖gradient − measured‖ / ‖measured‖, L2 norms over the whole tensor.

    Attributes:
        layer: what it is called; unique in a table.
        kind: what kind of layer it is, e.g. ``"batch norm"``.
        mode: ``"both"`` for a layer that does the same in training and evaluation mode. It is measured in both, and
            the row holds the one with the larger error.
        input_shape: of x.
        output_shape: of y.
        formula: of dL/dx, as text.
        popular_formula: what popular tables give instead; None where they give `formula`.
        x: the input.
        grad_output: dL/dy.
        measured: dL/dx by autograd.
        by_formula: dL/dx by `formula`, written out with tensors.
        by_popular: dL/dx by `popular_formula`; None where that is None.
        error: of `by_formula`.
        popular_error: of `by_popular`.
        terms: of `formula`.
        note: a sentence on the formula; may be empty.
    """

    layer: str
    kind: str
    mode: Mode
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    formula: str
    popular_formula: str | None
    x: Tensor
    grad_output: Tensor
    measured: Tensor
    by_formula: Tensor
    by_popular: Tensor | None
    error: float
    popular_error: float | None
    terms: tuple[Term, ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data: all but the tensors."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: v for k, v in data.items() if not isinstance(v, Tensor) and k != "by_popular"}
        plain["terms"] = [{"path": t.path, "formula": t.formula, "size": t.size} for t in self.terms]
        return plain
