"""Layers made of layers: a skip around one, and one after the other. The chain rule, by hand."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from skipgrad.probes.table.kinds.kind import Kind, Part, Shape, kind_of
from skipgrad.probes.table.residual import Residual


class Around(Kind):
    """y = x + F(x): the gradient of y, and what comes back through F."""

    name, types = "skip around a layer", (Residual,)

    def inner(self, layer: Any) -> tuple[nn.Module, ...]:
        return (layer.branch,)

    def formula(self, layer: Any) -> str:
        return "{g} + " + kind_of(layer.branch).formula(layer.branch).format(g="dL/dF")

    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        inner = kind_of(layer.branch)
        text = inner.formula(layer.branch).format(g="dL/dF")
        return (
            Part("through the shortcut", "{g}", g),
            Part("through the branch", text, inner.gradient(layer.branch, x, g)),
        )

    def popular_formula(self, layer: Any) -> str | None:
        inner = kind_of(layer.branch).popular_formula(layer.branch)
        return None if inner is None else "{g} + " + inner.format(g="dL/dF")

    def popular(self, layer: Any, x: Tensor, g: Tensor) -> Tensor | None:
        inner = kind_of(layer.branch).popular(layer.branch, x, g)
        return None if inner is None else g + inner

    def note(self, layer: Any) -> str:
        return kind_of(layer.branch).note(layer.branch)

    def by_mode(self, layer: Any) -> bool:
        return kind_of(layer.branch).by_mode(layer.branch)

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        return kind_of(layer.branch).shape(layer.branch, out)

    def alone(self, layer: Any) -> Shape | None:
        return kind_of(layer.branch).alone(layer.branch)


class Chain(Kind):
    """Layers one after the other: each one's own formula, the last first."""

    name, types = "layers in a row", (nn.Sequential,)

    def inner(self, layer: Any) -> tuple[nn.Module, ...]:
        return tuple(layer)

    def formula(self, layer: Any) -> str:
        return "".join(f"J{_index(i)}ᵀ·" for i in range(1, len(layer) + 1)) + "{g}"

    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        for step, given in reversed(list(zip(layer, _inputs(layer, x), strict=True))):
            g = kind_of(step).gradient(step, given, g)
        return (Part("through the layers", self.formula(layer), g),)

    def popular_formula(self, layer: Any) -> str | None:
        if all(kind_of(step).popular_formula(step) is None for step in layer):
            return None
        return f"{self.formula(layer)}, norms by γ/σ·dL/dy"

    def popular(self, layer: Any, x: Tensor, g: Tensor) -> Tensor | None:
        if self.popular_formula(layer) is None:
            return None
        for step, given in reversed(list(zip(layer, _inputs(layer, x), strict=True))):
            popular = kind_of(step).popular(step, given, g)
            g = kind_of(step).gradient(step, given, g) if popular is None else popular
        return g

    def by_mode(self, layer: Any) -> bool:
        return any(kind_of(step).by_mode(step) for step in layer)

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        for step in reversed(list(layer)):
            out = kind_of(step).shape(step, out)
        return out

    def alone(self, layer: Any) -> Shape | None:
        shapes = (kind_of(step).alone(step) for step in layer)
        return next((s for s in shapes if s is not None), None)


def _inputs(layer: Any, x: Tensor) -> list[Tensor]:
    """What each layer of a chain was given."""
    given = []
    for step in layer:
        given.append(x)
        x = step(x.clone())  # a clone: the layer may work in place
    return given


def _index(i: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(c)] for c in str(i))
