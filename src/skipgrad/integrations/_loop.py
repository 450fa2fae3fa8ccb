"""One watch over somebody else's loop: the ledger, and the recording it feeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from skipgrad.core.graph import SkipGraph
from skipgrad.ledger import Ledger, Recording
from skipgrad.writers.base import RowWriter


def ledger_of(
    model: nn.Module,
    optimizer: Any,
    *,
    graph: SkipGraph | None = None,
    every: int = 1,
    run: str | Path | None = None,
    writers: Sequence[RowWriter] = (),
    loop: str = "",
    steps: int = 0,
    name: str = "",
    main: bool = True,
) -> Ledger:
    """A ledger that writes what it measures as it comes; it is still to be entered.

    Args:
        model: what the loop calls.
        optimizer: the torch optimizer that makes the real steps, or what stands in for it.
        graph: the skips, if known.
        every: measure every so many steps.
        run: a run file to write (it must not exist).
        writers: what else gets the rows; closed with the watch.
        loop: whose loop it is, for the run file.
        steps: how many steps are planned; 0 where nobody knows.
        name: what the model is called, for the run file.
        main: False in a process that must not write, as others do.
    """
    meta = {"model": name or type(model).__name__, "data": loop, "command": loop}
    recording = Recording(run, writers=writers, meta=meta, steps=steps) if main else None
    return Ledger(model, graph, cast(Any, optimizer), every, recording=recording)
