"""The gradient of a convolution: the transposed convolution, as a sum over the places of its kernel.

Letters of the einsum: n example, g group, o and i channels of the group going out and in.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skipgrad.probes.table.kinds.kind import Kind, Part, Shape


def paddings(layer: Any) -> list[tuple[int, int]]:
    """Padding before and after, per spatial dimension."""
    if layer.padding == "valid":
        return [(0, 0) for _ in layer.kernel_size]
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    return [(p, p) for p in layer.padding]


def unpad(grad: Tensor, dim: int, size: int, pad: tuple[int, int], mode: str) -> Tensor:
    """The transpose of padding one dimension: what lay on the copies of a value is added to it.

    Args:
        grad: gradient of the padded tensor.
        dim: the dimension.
        size: its size before padding.
        pad: before and after.
        mode: ``padding_mode`` of the convolution.
    """
    if mode == "zeros":
        return grad.narrow(dim, pad[0], size)
    places = torch.arange(size, dtype=torch.float64, device=grad.device)
    copied = F.pad(places[None, None], pad, mode=mode)[0, 0].long()  # which value lies at each padded place
    shape = list(grad.shape)
    shape[dim] = size
    return grad.new_zeros(shape).index_add(dim, copied, grad)


def transposed(layer: Any, shape: Shape, grad: Tensor) -> Tensor:
    """Wᵀ ∗ dL/dy: every value of x takes, from each output it went into, that output's gradient times its weight.

    Args:
        layer: the convolution.
        shape: of x, (N, C, spatial …).
        grad: dL/dy, (N, out channels, spatial …).
    """
    pads, groups = paddings(layer), layer.groups
    weight = layer.weight.unflatten(0, (groups, -1))  # group, out, in, kernel …
    grad = grad.unflatten(1, (groups, -1))
    padded = [size + sum(pad) for size, pad in zip(shape[2:], pads, strict=True)]
    total = grad.new_zeros(shape[0], groups, shape[1] // groups, *padded)
    for place in product(*map(range, layer.kernel_size)):
        reached = tuple(
            slice(at * dilation, at * dilation + stride * (size - 1) + 1, stride)
            for at, dilation, stride, size in zip(place, layer.dilation, layer.stride, grad.shape[3:], strict=True)
        )
        total[:, :, :, *reached] += torch.einsum("ngo...,goi->ngi...", grad, weight[:, :, :, *place])
    total = total.flatten(1, 2)
    for dim, (size, pad) in enumerate(zip(shape[2:], pads, strict=True), 2):
        total = unpad(total, dim, size, pad, layer.padding_mode)
    return total


class Convolution(Kind):
    """y = W ∗ x + b in one, two or three dimensions, with any stride, padding, dilation and groups."""

    name = "convolution"
    types = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    methods = ("forward", "_conv_forward")

    def formula(self, layer: Any) -> str:
        return "Wᵀ ∗ {g}"

    def parts(self, layer: Any, x: Tensor, g: Tensor) -> tuple[Part, ...]:
        single = x.dim() == len(layer.kernel_size) + 1
        shape = (1, *x.shape) if single else tuple(x.shape)
        grad = transposed(layer, shape, g[None] if single else g)
        return (Part("through the weights", self.formula(layer), grad[0] if single else grad),)

    def note(self, layer: Any) -> str:
        return "Wᵀ ∗: the transposed convolution, with the stride, padding, dilation and groups of the layer"

    def shape(self, layer: Any, out: Shape | None) -> Shape | None:
        dims = len(layer.kernel_size)
        fits = out is not None and len(out) == dims + 2
        wanted = out[2:] if out is not None and fits else (4,) * dims
        sizes = []
        for size, kernel, stride, dilation, pad in zip(
            wanted, layer.kernel_size, layer.stride, layer.dilation, paddings(layer), strict=True
        ):
            least = 1 if layer.padding_mode == "zeros" else max(pad) + 1
            # Alone, with a rest that the last step of the stride does not reach.
            rest = 0 if fits else stride - 1
            sizes.append(max(stride * (size - 1) + dilation * (kernel - 1) + 1 + rest - sum(pad), least))
        return (out[0] if out is not None and fits else 3, layer.in_channels, *sizes)
