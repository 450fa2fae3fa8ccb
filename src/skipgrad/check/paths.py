"""The gradient by path length of a net in a check: before its first step, and after its last."""

from __future__ import annotations

import torch
from torch import nn

from skipgrad.core import PathRow, SkipgradError, SkipGraph
from skipgrad.models import Workload
from skipgrad.probes.spectrum import path_spectrum
from skipgrad.race import find_skips

# A spectrum of n branches in a row takes about n/2 backwards without weight gradients, which is the time of about n/4
# steps of training. Of more branches only the mean length is measured, for four backwards.
MOST_BRANCHES = 64
WHAT = "the gradient by path length"


def path_row(
    workload: Workload, model: nn.Module, step: int, device: str, graph: SkipGraph | None = None
) -> PathRow | None:
    """Measures the path spectrum on the example batch; None where the net has no add skips.

    Changes nothing of the model. What cannot be measured is told as the row's reason.

    Args:
        workload: where the batch and the loss come from.
        model: in training.
        step: how many steps it has taken.
        device: where it is.
        graph: its skips; they are looked for when None, as in a net that a remedy has changed.
    """
    batch = workload.example.to(torch.device(device))
    try:
        if graph is None:
            graph = find_skips(model, workload, device=device)
        branches = sum(len(s.branches) for s in graph.skips if s.kind == "add")
        if not branches:
            return None
        if batch.args and batch.kwargs:
            return PathRow(step, None, "inputs by position and by name at once")
        spectrum = path_spectrum(
            model,
            graph,
            batch.args or batch.kwargs,
            lambda out: workload.loss(out, batch),
            max_length=None if branches <= MOST_BRANCHES else 0,
        )
    except SkipgradError as error:
        return PathRow(step, None, error.received or str(error))
    return PathRow(step, spectrum if spectrum.measured else None, spectrum.reason)
