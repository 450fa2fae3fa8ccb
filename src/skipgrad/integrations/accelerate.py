"""Hugging Face Accelerate: the ledger is on inside a ``with`` block around your loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from skipgrad.core.errors import BadInput
from skipgrad.core.extras import wanted
from skipgrad.core.graph import SkipGraph
from skipgrad.integrations._session import Session, opened
from skipgrad.writers.base import RowWriter

if TYPE_CHECKING:
    from skipgrad.ledger import Ledger

with wanted("accelerate", "importing skipgrad.integrations.accelerate"):
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer


def watch(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    graph: SkipGraph | None = None,
    *,
    every: int = 1,
    run: str | Path | None = None,
    writers: Sequence[RowWriter] = (),
    steps: int = 0,
) -> AbstractContextManager[Ledger]:
    """Measures every skip of a model that ``accelerator.prepare`` returned, while the block is entered.

    Steps are the optimizer's real ones: under ``accelerator.accumulate(model)`` the batches of one step are told apart
    by ``micro``, and their gradients are those of the loss as Accelerate divides it. The factor of a ``GradScaler``
    (fp16) is divided out. Only the main process writes.

    Args:
        accelerator: the Accelerator.
        model: as `Accelerator.prepare` returned it.
        optimizer: as `Accelerator.prepare` returned it.
        graph: the skips; found at the first forward when None.
        every: measure every so many steps.
        run: path of a run file to write (it must not exist).
        writers: what else gets the rows, step by step; closed at the end.
        steps: how many steps you mean to make, for ``skipgrad watch``.

    Returns:
        A context manager that gives the `Ledger`; tell it your loss with ``ledger.loss(loss.item())``.

    Raises:
        BadInput: an optimizer that was not prepared.

    Example:
        >>> from skipgrad.integrations.accelerate import watch
        >>> model, optimizer, loader = accelerator.prepare(model, optimizer, loader)  # doctest: +SKIP
        >>> with watch(accelerator, model, optimizer, run="fit.sqlite") as ledger:  # doctest: +SKIP
        ...     train(accelerator, model, optimizer, loader)
    """
    if not isinstance(optimizer, AcceleratedOptimizer):
        raise BadInput(
            "watching an Accelerate loop",
            where="optimizer",
            received=f"a {type(optimizer).__name__} that Accelerate did not prepare",
            todo="pass what `model, optimizer = accelerator.prepare(model, optimizer)` returned",
        )
    # Accelerate's wrapper skips steps while it accumulates; torch's own optimizer sees the real ones.
    session = Session(
        model,
        optimizer.optimizer,  # pyright: ignore[reportAttributeAccessIssue]
        graph=graph,
        every=every,
        run=run,
        writers=writers,
        loop="Accelerate",
        steps=steps,
        name=type(accelerator.unwrap_model(model, keep_fp32_wrapper=True)).__name__,
        main=accelerator.is_main_process,
    )
    if accelerator.scaler is not None:
        session.ledger.scaled_by(accelerator.scaler)
    return opened(session)
