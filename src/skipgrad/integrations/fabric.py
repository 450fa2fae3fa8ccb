"""Lightning Fabric: the ledger is on inside a ``with`` block around your loop."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from skipgrad.core.errors import BadInput
from skipgrad.core.extras import wanted
from skipgrad.core.graph import SkipGraph
from skipgrad.integrations._session import Session, opened
from skipgrad.writers.base import RowWriter

if TYPE_CHECKING:
    from skipgrad.ledger import Ledger

with wanted("train", "importing skipgrad.integrations.fabric"):
    from lightning.fabric import Fabric
    from lightning.fabric.wrappers import _FabricModule, _FabricOptimizer

_DOING = "watching a Fabric loop"


def watch(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    graph: SkipGraph | None = None,
    *,
    every: int = 1,
    run: str | Path | None = None,
    writers: Sequence[RowWriter] = (),
    steps: int = 0,
) -> AbstractContextManager[Ledger]:
    """Measures every skip of a model that ``fabric.setup`` returned, while the block is entered.

    Steps are the optimizer's real ones; the batches of one accumulated step are told apart by ``micro``. The factor of
    a ``GradScaler`` (16-mixed) is divided out. Only the process of global rank 0 writes.

    Args:
        fabric: the Fabric.
        model: as `Fabric.setup` returned it.
        optimizer: as `Fabric.setup` returned it.
        graph: the skips of the model you gave to it; found at the first forward when None.
        every: measure every so many steps.
        run: path of a run file to write (it must not exist).
        writers: what else gets the rows, step by step; closed at the end.
        steps: how many steps you mean to make, for ``skipgrad watch``.

    Returns:
        A context manager that gives the `Ledger`; tell it your loss with ``ledger.loss(loss.item())``.

    Raises:
        BadInput: a model or optimizer that was not set up.

    Example:
        >>> from skipgrad.integrations.fabric import watch
        >>> model, optimizer = fabric.setup(model, optimizer)  # doctest: +SKIP
        >>> with watch(fabric, model, optimizer, run="fit.sqlite") as ledger:  # doctest: +SKIP
        ...     train(fabric, model, optimizer)
    """
    for what, thing, kind in (("model", model, _FabricModule), ("optimizer", optimizer, _FabricOptimizer)):
        if not isinstance(thing, kind):
            raise BadInput(
                _DOING,
                where=what,
                received=f"a {type(thing).__name__} that Fabric did not set up",
                todo="pass what `model, optimizer = fabric.setup(model, optimizer)` returned",
            )
    # What Fabric's wrapper calls, inside its precision: the model itself, compiled or in DistributedDataParallel.
    called: nn.Module = model._forward_module  # pyright: ignore[reportAssignmentType]
    inner: Any = model.module
    session = Session(
        called,
        optimizer.optimizer,  # pyright: ignore[reportAttributeAccessIssue]
        graph=graph,
        every=every,
        run=run,
        writers=writers,
        loop="Lightning Fabric",
        steps=steps,
        name=type(inner).__name__,
        main=fabric.is_global_zero,
    )
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if scaler is not None:
        session.ledger.scaled_by(scaler)
    return opened(session)
