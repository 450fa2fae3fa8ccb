"""The loss of the best answer that is always the same: that of a net which has learned the targets' mean alone."""

from __future__ import annotations

import math
from itertools import islice

import torch
from torch import Tensor

from skipgrad.core import SkipGraph
from skipgrad.models import Workload

BATCHES = 16
STEPS = 150
RATE = 0.1
LARGEST = 1_000_000  # numbers in one output; of larger ones the fit would take longer than the training


def constant_loss(workload: Workload, graph: SkipGraph, *, device: str = "cpu") -> float | None:
    """Fits one output that is the same for every input, by gradient descent on some batches.

    Of images it is the same at every position, of sequences at every token. None where the model's output is no plain
    tensor of floats, or its loss does not take such a one.

    Args:
        workload: where batches and the loss come from.
        graph: the model's skips, for its last layer's kind.
        device: where to work it out.
    """
    batches = [b.to(torch.device(device)) for b in islice(workload.batches(0), BATCHES)]
    if not graph.layers or not batches:
        return None
    shape = graph.layers[-1].out_shape
    if len(shape) < 2 or math.prod(shape) > LARGEST:
        return None
    # Convolutions have their classes in dimension 1, linear layers in the last one.
    at = 1 if graph.layers[-1].op.startswith("conv") and len(shape) > 2 else len(shape) - 1
    own = torch.Generator().manual_seed(0)
    start = [1] * len(shape)
    start[at] = shape[at]
    constant = (0.01 * torch.randn(start, generator=own)).to(device).requires_grad_()
    optimizer = torch.optim.Adam([constant], RATE)
    loss: Tensor | None = None
    try:
        with torch.enable_grad():
            for _ in range(STEPS):
                optimizer.zero_grad()
                loss = torch.stack([workload.loss(constant.expand(_like(shape, b)), b) for b in batches]).mean()
                loss.backward()
                optimizer.step()
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        return None  # its loss takes something else: boxes, a record, a pair
    value = float(loss.detach()) if loss is not None else math.nan
    return value if math.isfinite(value) else None


def _like(shape: tuple[int, ...], batch: object) -> tuple[int, ...]:
    """The output's shape for a batch, whose size may differ from that of the trace."""
    given = getattr(batch, "args", ()) or tuple(getattr(batch, "kwargs", {}).values())
    size = next((len(x) for x in given if isinstance(x, Tensor) and x.dim()), shape[0])
    return (size, *shape[1:])
