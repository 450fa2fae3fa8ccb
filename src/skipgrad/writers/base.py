"""What a writer is: something that is given the rows of one step after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from skipgrad.core.run import LayerRow, LossPoint, SkipRow

_Row = SkipRow | LayerRow | LossPoint


class RowWriter(ABC):
    """Writes rows as they are measured.

    A ledger calls it with what is new (`Ledger.on_rows`). Nothing is opened before the first row; on leaving its
    ``with`` block it is closed.

    Example:
        >>> import skipgrad as sg, torch
        >>> from skipgrad.writers import CsvWriter
        >>> with CsvWriter("out") as writer, sg.watch(model, graph, optimizer) as ledger:  # doctest: +SKIP
        ...     ledger.on_rows(writer)
        ...     train()
    """

    @abstractmethod
    def write(
        self, step: int, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]
    ) -> None:
        """Writes what is new of one step. A step may come again: its loss can be known later than its rows."""

    @abstractmethod
    def close(self) -> None:
        """Ends the writing; a second call does nothing."""

    def __call__(self, skips: Sequence[SkipRow], layers: Sequence[LayerRow], losses: Sequence[LossPoint]) -> None:
        """Writes rows of any steps, in order of step."""
        steps: dict[int, tuple[list[SkipRow], list[LayerRow], list[LossPoint]]] = {}
        for place, rows in enumerate((skips, layers, losses)):
            for row in rows:
                entry: tuple[list[_Row], ...] = steps.setdefault(row.step, ([], [], []))  # pyright: ignore[reportAssignmentType]
                entry[place].append(row)
        for step in sorted(steps):
            self.write(step, *steps[step])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
