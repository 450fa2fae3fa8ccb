"""The gradient of activation functions that act on each value by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.probes.table.kinds.kind import Kind, Part


class _Pointwise(Kind):
    text: str

    def formula(self, layer: Any) -> str:
        return self.text

    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        return (Part("through the function", self.text, self.slope(x) * g),)

    def slope(self, x: Tensor) -> Tensor:
        """dy/dx of each value."""
        raise NotImplementedError


class ReLU(_Pointwise):
    """y = max(x, 0). At x = 0 torch's gradient is 0, and so is this one."""

    name, types, text = "ReLU", (nn.ReLU,), "[x > 0]·{g}"

    def slope(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)


class Sigmoid(_Pointwise):
    """y = 1/(1 + exp(−x))."""

    name, types, text = "sigmoid", (nn.Sigmoid,), "y·(1 − y)·{g}"

    def slope(self, x: Tensor) -> Tensor:
        y = 1 / (1 + torch.exp(-x))
        return y * (1 - y)


class Tanh(_Pointwise):
    """y = tanh(x)."""

    name, types, text = "tanh", (nn.Tanh,), "(1 − y²)·{g}"

    def slope(self, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        return 1 - y * y
