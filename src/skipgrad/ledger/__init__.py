"""Measures the skip and the branch gradient of an unmodified model while it trains: `watch` and its `Ledger`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from skipgrad.core import SkipGraph, source_shares
from skipgrad.instrument.wrappers import unwrap
from skipgrad.ledger.kept import Feed
from skipgrad.ledger.ledger import Ledger
from skipgrad.ledger.recording import Recording
from skipgrad.ledger.refuse import check_steps

__all__ = ["Feed", "Ledger", "Recording", "source_shares", "watch"]


def watch(
    model: nn.Module,
    graph: SkipGraph | None = None,
    optimizer: Any = None,
    every: int | None = None,
    run: str | Path | None = None,
    steps: int = 0,
    *,
    budget: float | None = 0.01,
    sources: bool = False,
    layers: bool = True,
) -> Ledger:
    """Measures, while it is entered, what the gradient does at every skip and every weighted layer.

    The training that goes on inside is bitwise the training without. Nothing is left on the model
    afterwards. What it reads is what ``.backward()`` brings; ``torch.autograd.grad`` with chosen inputs
    leaves no rows. Which ways of training are measured, and which are refused, is a table in ``docs/ledger.md``.

    Args:
        model: as you call it: plain, ``torch.compile``d, in DistributedDataParallel, after ``fully_shard``.
        graph: `sg.find`'s; found as the model runs when not given. Skips that were taken out of it are not measured.
        optimizer: lets steps be the optimizer's, and updates and stalled weights be measured. A wrapper with an
            optimizer inside it will do, and so will a list of optimizers that step after the same backward.
        every: measures each ``every``-th step, whatever it costs; the others run at full speed, with nothing in their
            way.
        run: a new run file to write, for ``skipgrad report`` and `sg.diagnose`.
        budget: the share of the time that measuring may cost. The first 20 steps are measured, and what costs no more
            than a second in all; then as many as the budget allows, drawn at random, and some where a loss you tell
            (`Ledger.loss`) or the gradient jumps. None measures every step. `Ledger.cost` says what it cost. Without
            effect where `every` is given.
        steps: how many steps you mean to make, so that ``skipgrad watch`` can say how long it will take.
        sources: measures each source of a concatenation of several by itself, too (`Ledger.sources`). It reads the
            gradients there once more, and keeps one row a source; the run file does not hold them.
        layers: measures the weighted layers, too; without, only the skips, at half to three quarters of the cost.

    Returns:
        The `Ledger`, a context manager.

    Raises:
        BadInput: an argument of the wrong kind.
        MeasureError: a kind of model that cannot be measured (ScriptModule, ExportedProgram, DataParallel); a graph of
            another model; on entering, a compiled model whose weights ``fully_shard`` has cut up, and no graph. Once
            the watch is on, nothing of it raises into your loop: what cannot be measured is in `Ledger.notes`.

    Example:
        >>> import skipgrad as sg, torch, torchvision
        >>> model, x = torchvision.models.resnet18(), torch.randn(2, 3, 64, 64)
        >>> with sg.watch(model) as ledger:
        ...     model(x).sum().backward()
        >>> len(ledger.rows())
        8
    """
    check_steps(steps)
    recording = Recording(run, meta={"model": type(unwrap(model)).__name__}, steps=steps)
    share = budget if every is None else None
    how = {"recording": recording, "sources": sources, "layers": layers, "budget": share}
    return Ledger(model, graph, optimizer, 1 if every is None else every, **how)
