"""One watch over somebody else's loop: the ledger, the run file and the writers it feeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from skipgrad.core.endings import Ending, ending
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import LayerRow, LossPoint, SkipRow, Trial
from skipgrad.ledger import Ledger, watch
from skipgrad.store import RunWriter
from skipgrad.writers.base import RowWriter


class Session:
    """Opens a watch, writes what it measures as it comes, and closes all of it whatever happens.

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

    def __init__(
        self,
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
    ) -> None:
        self.ledger: Ledger = watch(model, graph, optimizer=cast(Any, optimizer), every=every)
        self._optimizer = optimizer
        self._run = run if main else None
        self._writers = tuple(writers) if main else ()
        self._meta = {
            "model": name or type(model).__name__,
            "data": loop,
            "command": loop,
            "versions": {"torch": torch.__version__},
            **({"steps": steps} if steps else {}),
        }
        self._planned = steps
        self._file: RunWriter | None = None
        self._graph_written = False
        self._last = -1  # the last step that left a row
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether the watch is on."""
        return self._open

    def open(self) -> Session:
        """Begins the watch."""
        with ExitStack() as undo:
            if self._run is not None:
                self._file = RunWriter.create(self._run, {**self._meta, "state": "running"})
                undo.callback(self._file.close)
                self._file.trial(self._trial(self._planned)).commit()
            self.ledger.on_rows(self._arrived)
            self.ledger.__enter__()
            undo.pop_all()
        self._open = True
        return self

    def close(self, end: Ending, steps: int | None = None) -> None:
        """Ends the watch; a second call does nothing.

        Args:
            end: how the run ended.
            steps: how many steps were made, where the loop counts them.
        """
        if not self._open:
            return
        self._open = False
        with ExitStack() as stack:  # each of them, also when one of them raises
            for writer in self._writers:
                stack.callback(writer.close)
            stack.callback(self._finish, end, steps)
            self.ledger.close()

    def _arrived(self, skips: list[SkipRow], layers: list[LayerRow], losses: list[LossPoint]) -> None:
        for rows in (skips, layers):
            if rows:
                self._last = max(self._last, rows[-1].step)
        if self._file is not None:
            if not self._graph_written and self.ledger.graph is not None:
                self._file.graph(self.ledger.graph)
                self._graph_written = True
            self._file.skip_rows(0, skips).layer_rows(0, layers).losses(losses).commit()
        for writer in self._writers:
            writer(skips, layers, losses)

    def _finish(self, end: Ending, steps: int | None) -> None:
        if self._file is None:
            return
        with self._file as file:
            if self.ledger.graph is not None:
                file.graph(self.ledger.graph)
            made = self._last + 1 if steps is None else steps
            file.trial(replace(self._trial(made), state="done" if end.state == "done" else "interrupted"))
            file.meta(steps=made, **end.meta())
            for note in self.ledger.notes:
                file.note(note)
        self._file = None

    def _trial(self, steps: int) -> Trial:
        groups = getattr(self._optimizer, "param_groups", None) or [{}]
        # The record wants a seed; the one you gave is not ours to know.
        return Trial(0, None, float(groups[0].get("lr") or 0.0), 0, steps, measured=True)


@contextmanager
def opened(session: Session) -> Iterator[Ledger]:
    """The session's ledger, for the time of a ``with`` block."""
    session.open()
    try:
        yield session.ledger
    except BaseException as error:
        session.close(ending(error))
        raise
    session.close(Ending("done"))
