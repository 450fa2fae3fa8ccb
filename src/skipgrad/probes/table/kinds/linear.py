"""The gradient of a linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.probes.table.kinds.kind import Kind, Part, Shape


class Linear(Kind):
    """y = W·x + b over the last dimension."""

    name = "linear"
    types = (nn.Linear,)

    def formula(self, layer: Any) -> str:
        return "Wᵀ·{g}"

    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        return (Part("through the weights", self.formula(layer), torch.einsum("...o,oi->...i", g, layer.weight)),)

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        return (*(out[:-1] if out else (4,)), layer.in_features)
