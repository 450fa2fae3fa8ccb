"""The value residual: each attention's values are mixed with those of the first."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen
from skipgrad.core import BadInput


class ValueResidual(nn.Module):
    """v ← λ₁·v + λ₂·v₁, λ₁ = λ₂ = ½ at the start, for every layer but the first: layers that say their values.

    Zhou et al., "Value residual learning" (arXiv 2410.17897).

    Args:
        layers: modules with a method ``values(x)`` → v, and a forward ``(x, v)`` → x, such as
            `skipgrad.blocks.TransformerBlock`.
        learned: whether λ₁ and λ₂ are learned, for each layer.

    Raises:
        BadInput: a layer that does not say its values; in the forward, values of another shape than the first's.
    """

    def __init__(self, layers: Iterable[nn.Module], *, learned: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        for k, layer in enumerate(self.layers):
            if not callable(getattr(layer, "values", None)):
                raise BadInput(
                    "building a value residual",
                    where=f"layer {k}, a {type(layer).__name__}",
                    received="a layer without a method values(x)",
                    todo="give layers with values(x) and forward(x, values)",
                )
        self.mix = nn.ParameterList(
            [nn.Parameter(torch.full((2,), 0.5), requires_grad=learned) for _ in range(len(self.layers) - 1)]
        )

    def no_weight_decay(self) -> set[str]:
        """Names of what weight decay is to leave alone."""
        return {f"mix.{k}" for k in range(len(self.mix))}

    def forward(self, x: Tensor) -> Tensor:
        first = None
        for k, layer in enumerate(self.layers):
            values = layer.values(x)  # type: ignore[operator]
            if first is None:
                first = values
            else:
                check_sum(self, values, first)
                values = self.mix[k - 1][0] * values + self.mix[k - 1][1] * first
            x = layer(x, values)
        return x


class _Layer(nn.Module):
    """An attention without its attention, for the example: values, and what is made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(6, 6)
        self.out = nn.Linear(6, 6)

    def values(self, x: Tensor) -> Tensor:
        return self.value(x)

    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        return x + self.out(torch.tanh(values))


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    one, two = (layer for layer in m.modules() if isinstance(layer, _Layer))
    v = one.value(x)
    x = x + one.out(torch.tanh(v))
    return x + two.out(torch.tanh(0.5 * two.value(x) + 0.5 * v))


FORMS.register(
    "value-residual",
    FormEntry(
        title="Value residual",
        build=ValueResidual,
        example=lambda: ValueResidual([_Layer(), _Layer()]),
        shape=TOKENS,
        formula="v ← λ₁·v + λ₂·v₁",
        paper='Zhou et al., "Value residual learning", 2024 (arXiv 2410.17897)',
        shapes="(N, T, C) → the same; values of one shape in all layers",
        start="(v + v₁)/2 in place of v, from the second layer on",
        initially=_initially,
        finds=(Seen("add", "identity", 2), Seen("add", "scaled", 2), Seen("add", "identity", 2)),
        when="Transformers: later layers keep the tokens' first values, and attention stays less concentrated.",
        cost="two numbers a layer, and the memory of the first values",
        sees="Besides the layers' own skips: from v₁, past the first layer's output and the next value map, to v.",
    ),
)
