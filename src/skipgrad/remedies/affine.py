"""Finds the parameters that scale a module's output: when they are multiplied by f, so is the output."""

from __future__ import annotations

import copy
import re

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

# Modules whose forward is known to be linear in (weight, bias). Exact types: a subclass may do otherwise
# (a weight-standardised convolution does not care how large its weight is).
_KNOWN: frozenset[type[nn.Module]] = frozenset(
    {
        nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag,
        nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
        nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
        nn.GroupNorm, nn.LayerNorm, nn.RMSNorm,
        nn.modules.linear.NonDynamicallyQuantizableLinear,
    }
)  # fmt: skip
# Names a block gives to a learned scale it owns itself.
SCALE_NAMES = r"(gamma|alpha|scale|layer_scale|res_?scale|res_?weight|skip_?gain|lambda|ls)(_?\d+)?"


def affine(module: nn.Module, ends: int = 1) -> tuple[tuple[tuple[nn.Module, str], ...], str]:
    """The parameters of ``module`` that scale its output, as (owner, attribute); or no parameters, and the reason why.

    Args:
        module: the last weighted module of a branch.
        ends: how many branches end in it: a block may own one learned scale for each of them.
    """
    kind = type(module).__name__
    if isinstance(module, nn.MultiheadAttention):
        return affine(module.out_proj)
    if hasattr(module, "parametrizations"):
        return (), f"the {kind} at its end has a parametrized weight"
    own = dict(module.named_parameters(recurse=False))
    if any(isinstance(p, UninitializedParameter) for p in own.values()):
        return (), f"the {kind} at its end is lazy and has no weight yet: run the model once"
    names = tuple(n for n in ("weight", "bias") if n in own)
    if "weight" in own:
        if getattr(type(module), "skipgrad_of", type(module)) in _KNOWN or (
            set(own) <= {"weight", "bias"} and _scales(module, names)
        ):
            return tuple((module, n) for n in names), ""
        gain = tuple(n for n in ("gain", "bias") if n in own)  # weight-standardised convolutions
        if "gain" in own and _scales(module, gain):
            return tuple((module, n) for n in gain), ""
        return (), f"the {kind} at its end is of an unknown type, and its output does not scale with its weight"
    scales = tuple(n for n in own if re.fullmatch(SCALE_NAMES, n, re.IGNORECASE))
    if not scales:
        return (), f"the {kind} at its end has no weight and no learned scale that is known by its name"
    if len(scales) != ends:
        return (), f"the {kind} at its end owns {len(scales)} learned scales, for {ends} of its branches"
    leaf = not any(True for _ in module.children())
    if leaf and not (_scales(module, (*scales, *(n for n in ("bias", "beta") if n in own)))):
        return (), f"the {kind} at its end is of an unknown type, and its output does not scale with {scales[0]}"
    extra = tuple(n for n in ("bias", "beta") if n in own) if leaf else ()
    return tuple((module, n) for n in (*scales, *extra)), ""


def _scales(module: nn.Module, names: tuple[str, ...]) -> bool:
    """Tries out whether some parameters scale the output: on a copy, with 0, 1 and 2 times their values.

    Inputs of several shapes are tried, as the module does not say which it takes.
    """
    try:
        trial = copy.deepcopy(module).eval()
    except Exception:  # noqa: BLE001  a module that cannot be copied is one we do not know
        return False
    first = getattr(trial, names[0])
    if first.is_meta:
        return False
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # Random values, because at some, such as zeros, the output says nothing.
        for n in names:
            p = getattr(trial, n)
            p.copy_(torch.rand(p.shape, generator=generator).to(p) + 0.5)
        values = {n: getattr(trial, n).clone() for n in names}
        answers = []
        for shape in _shapes(module, first):
            x = torch.randn(shape, generator=generator).to(first)
            try:
                outs = []
                for factor in (0.0, 1.0, 2.0):
                    for n in names:
                        getattr(trial, n).copy_(factor * values[n])
                    outs.append(trial(x))
                zero, one, two = outs
                ok = not zero.any() and bool(one.any()) and torch.allclose(two, 2 * one, rtol=1e-2, atol=1e-3)
            except Exception:  # noqa: BLE001  an input the module does not take says nothing about it
                continue
            answers.append(ok)
    return bool(answers) and all(answers)


def _shapes(module: nn.Module, weight: torch.Tensor) -> list[tuple[int, ...]]:
    if isinstance(module, nn.modules.conv._ConvNd):
        size = [max(8, d * (k - 1) + 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(2, module.in_channels, *size)]
    widths = {weight.numel()} if weight.dim() != 2 else {weight.shape[0], weight.shape[1]}
    return [s for n in sorted(widths) for s in ((2, n), (2, 3, n), (2, 3, 3, n), (2, n, 3, 3))]
