"""The optimizers a trial can use."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import OptimizerName

MOMENTUM = 0.9
SGD_DECAY = 1e-4
ADAMW_DECAY = 0.01


def make_optimizer(
    name: OptimizerName, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float | None = None
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
        return torch.optim.SGD(
            wanted, lr=lr, momentum=MOMENTUM, weight_decay=SGD_DECAY if weight_decay is None else weight_decay
        )
    if name == "adam":
        return torch.optim.Adam(wanted, lr=lr, weight_decay=weight_decay or 0.0)
    assert name == "adamw", name
    return torch.optim.AdamW(wanted, lr=lr, weight_decay=ADAMW_DECAY if weight_decay is None else weight_decay)
