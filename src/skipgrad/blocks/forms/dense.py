"""The dense block: each layer reads everything before it, and what it returns is appended."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._dense_memory import applied, split
from skipgrad.blocks.forms._merging import check_join, concatenated
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen


class Dense(nn.Module):
    """x₀ = x, x_k = F_k(cat(x₀ … x_{k−1})), y = cat(x₀ … x_K): (N, C, …) → (N, C + Σ growth, …).

    Huang et al., "Densely connected convolutional networks" (arXiv 1608.06993).

    Args:
        layers: F₁ … F_K; layer k takes all channels so far and returns those it adds.
        dim: the dimension of the channels.
        memory_efficient: keep for the backward what grows with K, not with K²: a layer is then a ``nn.Sequential`` that
            starts with norms and activations, which are computed again. A compiled model has torch's own way of
            choosing what to keep instead.

    Raises:
        BadInput: layers of another form with ``memory_efficient``; in the forward, one that changes another dimension.
    """

    def __init__(self, layers: Iterable[nn.Module], dim: int = 1, *, memory_efficient: bool = False) -> None:
        super().__init__()
        self.layers, self.dim, self.memory_efficient = nn.ModuleList(layers), dim, memory_efficient
        if memory_efficient:
            for k, layer in enumerate(self.layers):
                split(layer, k)

    def forward(self, x: Tensor) -> Tensor:
        if self.memory_efficient and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            parts = [x]
            for k, layer in enumerate(self.layers):
                new = applied(layer, k, parts, self.dim)
                check_join(self, x, new, self.dim, "layers")
                parts.append(new)
            return torch.cat(parts, self.dim)
        for layer in self.layers:
            x = concatenated(self, x, layer(x), self.dim, "layers")
        return x


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    first, second = next(m.children()).children()
    one = torch.cat([x, first(x)], 1)
    return torch.cat([one, second(one)], 1)


FORMS.register(
    "dense",
    FormEntry(
        title="Dense block",
        build=Dense,
        example=lambda: Dense([nn.Linear(6, 2), nn.Linear(8, 2)]),
        shape=FEATURES,
        formula="x_k = F_k(cat(x_0 … x_{k−1})), y = cat(x_0 … x_K)",
        paper='Huang et al., "Densely connected convolutional networks", 2016 (arXiv 1608.06993)',
        shapes="(N, C, …) → (N, C + Σ growth, …)",
        start="the concatenation of x and of what each layer makes of it",
        initially=_initially,
        finds=(Seen("concat", "identity", 1), Seen("concat", "identity", 1)),
        when="Few weights and little data: features are made once and read often.",
        cost="memory that grows with the square of the depth; with `memory_efficient=True` with the depth, for "
        "norms and "
        "activations computed twice",
        outside="torchvision DenseNet",
    ),
)
