"""Dense layers whose memory grows with their depth, not with its square: what comes before a convolution is computed
again.

Autograd saves, of norm → activation → convolution on a concatenation, the concatenation and what the activation
returned, for each layer anew. Here handles stand in their places: the concatenation is made again from its parts,
which are there anyway, and norm (with the statistics of the forward) and activation run again on it; convolutions do
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
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
        again.remember(i, module, x)
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
        self.wanted: set[int] = set()
        self.statistics: dict[int, tuple[Tensor, Tensor]] = {}
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
            self.wanted.add(at)
            return _Handle(self, at)

        return torch.autograd.graph.saved_tensors_hooks(pack, _unpack)

    def remember(self, i: int, module: nn.Module, out: Tensor) -> None:
        """Keeps the statistics that a batch norm worked out: computing them is the dear part of running it again."""
        node: Any = out.grad_fn
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and node is not None:
            mean, deviation = (getattr(node, f"_saved_result{k}", None) for k in (1, 2))
            if mean is not None and deviation is not None and mean.dtype == out.dtype and mean.numel() == out.shape[1]:
                self.statistics[i] = (mean, deviation)

    def _run(self, i: int, module: nn.Module, x: Tensor) -> Tensor:
        """What module i returned of x."""
        if i in self.statistics:
            mean, inverse = self.statistics[i]
            m: Any = module
            return F.batch_norm(x, mean, inverse.pow(-2) - m.eps, m.weight, m.bias, False, 0.0, m.eps)
        if isinstance(module, nn.ReLU) and i > 0 and i not in self.wanted:
            return x.relu_()  # nobody asks for x
        return module(x)

    def get(self, i: int) -> Tensor:
        """Value i; all are computed at the first question, and let go at the last."""
        if not self.values:
            if [p._version for p in self.parts] != self.versions:
                raise RuntimeError("a tensor that a dense block needs for its backward was changed in place")
            with torch.no_grad(), statistics_left_alone(self.head):
                self.values = [torch.cat(self.parts, self.dim)]
                for k, module in enumerate(self.head):
                    self.values.append(self._run(k, module, self.values[-1]))
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
