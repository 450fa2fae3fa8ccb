"""Dense layers whose memory grows with their depth, not with its square: what comes before a convolution is computed
again.

Autograd saves, of norm → activation → convolution on a concatenation, the concatenation and what the activation
returned, for each layer anew. Here handles stand in their places: the concatenation is made again from its parts,
which are there anyway, and norm and activation run again on it; convolutions do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._recompute import statistics_left_alone
from skipgrad.core import BadInput

_CHEAP = (
    nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.Identity, nn.ReLU, nn.GELU, nn.SiLU, nn.ELU,
    nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.Hardswish, nn.Mish,
)  # fmt: skip


def split(layer: nn.Module, k: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """The norms and activations that a layer starts with, and what follows them.

    Raises:
        BadInput: a layer that is no ``nn.Sequential``, or one that starts in-place.
    """
    parts = list(layer) if isinstance(layer, nn.Sequential) else []
    many = next((i for i, m in enumerate(parts) if not isinstance(m, _CHEAP)), len(parts))
    if not parts or many == len(parts) or any(getattr(m, "inplace", False) for m in parts[:many]):
        raise BadInput(
            "building a dense block with memory_efficient=True",
            where=f"layer {k}, a {type(layer).__name__}",
            received="a layer that is not norms and activations (none in-place), then the rest, in one nn.Sequential",
            todo="write it so: nn.Sequential(norm, nn.ReLU(), conv, …); or leave memory_efficient out",
        )
    return parts[:many], parts[many:]


def applied(layer: nn.Module, k: int, parts: Sequence[Tensor], dim: int) -> Tensor:
    """What a layer returns of the concatenation of the parts."""
    head, rest = split(layer, k)
    x = torch.cat(list(parts), dim)
    again = _Again(parts, dim, head)
    for i, module in enumerate(head):
        with again.hooks(i, x, head=True):
            x = module(x)
    with again.hooks(len(head), x, head=False):
        x = rest[0](x)
    for module in rest[1:]:
        x = module(x)
    return x


class _Again:
    """What a layer's head computed, to be computed again: value 0 is the concatenation, value i + 1 what module i
    returned."""

    def __init__(self, parts: Sequence[Tensor], dim: int, head: list[nn.Module]) -> None:
        self.parts, self.dim, self.head = [p.detach() for p in parts], dim, head
        self.versions = [p._version for p in self.parts]
        self.many = self.left = 0
        self.values: list[Tensor] = []

    def hooks(self, i: int, x: Tensor, *, head: bool) -> Any:
        """Within it, a saved tensor that is value i (or, in the head, value i + 1) is kept as a handle."""

        # Autograd keeps the function as long as what it packed: it must not hold x itself.
        shape, place = x.shape, x.data_ptr()

        def pack(t: Tensor) -> Any:
            if t.shape != shape or not t.is_floating_point():
                return t
            if t.data_ptr() == place:
                at = i
            elif head:
                at = i + 1
            else:
                return t
            self.many += 1
            self.left += 1
            return _Handle(self, at)

        return torch.autograd.graph.saved_tensors_hooks(pack, _unpack)

    def get(self, i: int) -> Tensor:
        """Value i; all are computed at the first question, and let go at the last."""
        if not self.values:
            if [p._version for p in self.parts] != self.versions:
                raise RuntimeError("a tensor that a dense block needs for its backward was changed in place")
            with torch.no_grad(), statistics_left_alone(self.head):
                self.values = [torch.cat(self.parts, self.dim)]
                for module in self.head:
                    self.values.append(module(self.values[-1]))
        value = self.values[i]
        self.left -= 1
        if not self.left:
            self.values, self.left = [], self.many
        return value


class _Handle:
    """Stands for a saved tensor."""

    def __init__(self, again: _Again, i: int) -> None:
        self.again, self.i = again, i


def _unpack(kept: Any) -> Tensor:
    return kept.again.get(kept.i) if isinstance(kept, _Handle) else kept
