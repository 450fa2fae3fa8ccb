"""Treats several edits of one remedy, made one after another, as a single edit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from skipgrad.remedies.evidence import Evidence
from skipgrad.remedies.plan import Applied
from skipgrad.remedies.records import Left, Verification


class Sweeps(Applied):
    """Several sweeps of one remedy, as one."""

    def __init__(self, sweeps: list[Applied]) -> None:
        last = sweeps[-1]
        super().__init__(replace(last.plan), last.given)
        self.sweeps = sweeps
        self.skipped: tuple[Left, ...] = tuple(dict.fromkeys(s for sweep in sweeps for s in sweep.skipped))

    @property
    def lines(self) -> str:
        first, *rest = (s.lines for s in self.sweeps)
        head = "import torch\n\n"
        return first + "".join("\n" + text.removeprefix(head) for text in rest)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(n for s in self.sweeps for n in s.notes)

    def _do(self) -> None: ...

    def _revert(self) -> None:
        for sweep in reversed(self.sweeps):
            sweep.undo()

    def start(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Its sweeps are in force already."""

    def undo(self) -> None:
        """Takes all sweeps back, the last first."""
        if not self._undone and self.sweeps[-1]._entry is not None:
            self._revert()
            self._undone = True
        else:
            self.sweeps[-1].undo()  # says why not

    def __exit__(self, *exc: Any) -> None:
        if not self._undone:
            self.undo()

    def _verify(self, evidence: Evidence) -> Verification:
        """Checks the last sweep, which is what decides."""
        return self.sweeps[-1].verify(evidence)
