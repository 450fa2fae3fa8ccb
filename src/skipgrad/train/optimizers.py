"""The optimizers a training can use: PyTorch's own."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import OptimizerName

MOMENTUM = 0.9
BETAS = (0.9, 0.999)
SGD_DECAY = 1e-4
ADAMW_DECAY = 0.01


def make_optimizer(
    name: OptimizerName,
    parameters: Iterable[nn.Parameter],
    lr: float,
    weight_decay: float | None = None,
    *,
    momentum: float = MOMENTUM,
    nesterov: bool = False,
    betas: tuple[float, float] = BETAS,
) -> torch.optim.Optimizer:
    """An optimizer over the parameters that require a gradient; its usual weight decay when None is given.

    Raises:
        BadInput: when there is no such parameter.
    """
    wanted = [p for p in parameters if p.requires_grad]
    if not wanted:
        raise BadInput(
            f"making the {name} optimizer",
            received="a model without a parameter that requires a gradient",
            todo="unfreeze some of its parameters: there is nothing to train",
        )
    if name == "sgd":
        decay = SGD_DECAY if weight_decay is None else weight_decay
        return torch.optim.SGD(wanted, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    if name == "adam":
        return torch.optim.Adam(wanted, lr=lr, betas=betas, weight_decay=weight_decay or 0.0)
    assert name == "adamw", name
    decay = ADAMW_DECAY if weight_decay is None else weight_decay
    return torch.optim.AdamW(wanted, lr=lr, betas=betas, weight_decay=decay)
