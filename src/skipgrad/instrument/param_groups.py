"""Two groups of parameters for an optimizer: those that weight decay is for, and those it would harm."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core.errors import BadInput

# Modules whose ``weight`` is a matrix, a kernel or a table, whatever its shape: Linear(8, 1) has one row.
_MATRICES = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)


def param_groups(model: nn.Module, weight_decay: float = 0.01, **options: Any) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices with weight decay; scales, norms, biases and mixing weights without.

    Weight decay pulls towards zero. For a matrix in front of a norm that is a change of the rate; for the α of x +
    αF(x), LayerScale's γ, a norm's gain or the mixing weights of hyper-connections it is a pull towards another net.

    Not decayed is a parameter of at most one dimension longer than 1 – unless it is the weight of a Linear, a
    convolution, an embedding or a recurrent net –, every bias, and what a module names in a method
    ``no_weight_decay()`` that returns names of its own parameters (timm's convention; skipgrad's forms have it).

    Args:
        model: whose parameters. Frozen ones are left out; one that is used in two places comes once.
        weight_decay: of the first group; at least 0.
        options: what else the first group is to have (``lr=``); the second gets the same.

    Returns:
        ``[{"params": …, "weight_decay": weight_decay}, {"params": …, "weight_decay": 0.0}]``, each in the model's
        order; a group that would be empty is left out.

    Raises:
        BadInput: a negative weight decay, or a model with nothing to train.
    """
    if not (isinstance(weight_decay, int | float) and 0 <= weight_decay < math.inf):
        raise BadInput(
            "making groups of parameters",
            received=f"weight_decay={weight_decay!r}",
            todo="give a number of at least 0",
        )
    kept_out = undecayed(model)
    decayed: list[Tensor] = []
    spared: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (spared if name in kept_out else decayed).append(parameter)
    if not decayed and not spared:
        raise BadInput(
            "making groups of parameters",
            where=type(model).__name__,
            received="no parameter that requires a gradient",
            todo="give a model with something to train",
        )
    groups = [
        {"params": decayed, "weight_decay": float(weight_decay), **options},
        {"params": spared, "weight_decay": 0.0, **options},
    ]
    return [group for group in groups if group["params"]]


def undecayed(model: nn.Module) -> frozenset[str]:
    """Names of the parameters that weight decay is to leave alone; see `param_groups`."""
    names: set[str] = set()
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        named = getattr(module, "no_weight_decay", None)
        if callable(named):
            names |= {prefix + name for name in named()}  # pyright: ignore[reportGeneralTypeIssues]
        for name, parameter in module.named_parameters(recurse=False):
            if "bias" in name or (_thin(parameter) and not isinstance(module, _MATRICES)):
                names.add(prefix + name)
    return frozenset(names)


def _thin(parameter: torch.Tensor) -> bool:
    return sum(n > 1 for n in parameter.shape) <= 1
