"""A forward and backward that leave the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from skipgrad.train.seeding import kept_random


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores gradients, buffers (batch-norm statistics), training modes and random states at its end.

    Inside, the model has no gradients. Weights are not saved: nothing in here may step an optimizer.
    """
    parameters = list(model.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    grads = [p.grad for p in parameters]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    modes = [(m, m.training) for m in model.modules()]
    for p in parameters:
        p.grad = None
    try:
        with kept_random(device):
            yield
    finally:
        for p, g in zip(parameters, grads, strict=True):
            p.grad = g
        with torch.no_grad():
            for b, value in buffers:
                b.copy_(value)
        for m, mode in modes:
            m.training = mode
