"""What steps of a check change of the branches: some looks, spread over the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from skipgrad.core import SkipgradError, SkipGraph
from skipgrad.ledger import Ledger
from skipgrad.remedies import changes
from skipgrad.store import RunWriter

LOOKS = 8  # each takes about as long as a step


@contextmanager
def looking(
    model: nn.Module, graph: SkipGraph, optimizer: torch.optim.Optimizer, steps: int, ledger: Ledger, file: RunWriter
) -> Iterator[None]:
    """Measures D some times during a training; where it cannot be, the run file says why."""

    def failed(error: SkipgradError) -> None:
        file.note(f"what a step changes of the branches: not measured: {error.received or error}")

    with ExitStack() as stack:
        if graph.count("add"):
            every = max(1, steps // LOOKS)
            try:
                looks = changes(model, graph, optimizer, every=every, told=ledger.change_at, failed=failed)
                stack.enter_context(looks)
            except SkipgradError as error:  # no branch that could be measured
                failed(error)
        yield
