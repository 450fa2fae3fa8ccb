"""A callback for the Trainer of transformers: the ledger is on while it trains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from skipgrad.core.endings import Ending, ending
from skipgrad.core.errors import BadInput
from skipgrad.core.extras import wanted
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import LossPoint
from skipgrad.integrations._session import Session
from skipgrad.writers.base import RowWriter

if TYPE_CHECKING:
    from skipgrad.ledger import Ledger

with wanted("models,accelerate", "importing skipgrad.integrations.transformers_"):
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class SkipgradCallback(TrainerCallback):
    """Measures every skip of the model that a ``Trainer`` trains.

    The Trainer tells its callbacks when training ends, but not when it fails. Use it as a context manager around
    ``train()``: then the watch is closed whatever happens, and nothing is left on the model.

    Losses are those the Trainer logs, each the mean since the one before (``logging_steps=1``: one a step). Norms of
    weight gradients are those after the Trainer clips them (``max_grad_norm``); the skips' are those before.

    Args:
        graph: the skips; found at the first forward when None.
        every: measure every so many steps.
        run: path of a run file to write (it must not exist).
        writers: what else gets the rows, step by step; closed at the end.

    Attributes:
        ledger: the ledger; None before training starts.

    Example:
        >>> from skipgrad.integrations.transformers_ import SkipgradCallback
        >>> with SkipgradCallback(run="fit.sqlite") as watching:  # doctest: +SKIP
        ...     Trainer(model, arguments, train_dataset=data, callbacks=[watching]).train()
        >>> watching.ledger.frame()  # doctest: +SKIP
    """

    def __init__(
        self,
        graph: SkipGraph | None = None,
        *,
        every: int = 1,
        run: str | Path | None = None,
        writers: Sequence[RowWriter] = (),
    ) -> None:
        self.ledger: Ledger | None = None
        self._graph, self._every, self._run, self._writers = graph, every, run, writers
        self._session: Session | None = None
        self._start = 0.0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Opens the watch."""
        self.close("interrupted")  # one that a failed training left open
        if model is None or optimizer is None:
            raise BadInput(
                "watching a transformers Trainer",
                received=f"no {'model' if model is None else 'optimizer'} at the start of the training",
                todo="train with a Trainer that has one (DeepSpeed and the like are not supported)",
            )
        # Accelerate's wrapper skips steps while it accumulates; torch's own optimizer sees the real ones.
        real = getattr(optimizer, "optimizer", optimizer)
        self._session = Session(
            model,
            real,
            graph=self._graph,
            every=self._every,
            run=self._run,
            writers=self._writers,
            loop="transformers.Trainer",
            steps=state.max_steps,
            main=state.is_world_process_zero,
        )
        self.ledger = self._session.ledger
        scaler = getattr(optimizer, "scaler", None)
        if scaler is not None:
            self.ledger.scaled_by(scaler)
        self._session.open()
        self._start = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keeps the loss."""
        loss = (logs or {}).get("loss")
        if self._session is not None and self._session.is_open and loss is not None and state.global_step:
            seconds = time.perf_counter() - self._start
            self._session.ledger.loss_at(LossPoint(0, state.global_step - 1, float(loss), seconds))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the watch."""
        if self._session is not None:
            self._session.close(Ending("done"), state.global_step)

    def close(self, state: str = "interrupted", error: str = "") -> None:
        """Ends the watch, where the Trainer could not say that it was over."""
        if self._session is not None:
            self._session.close(Ending(state, error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(*(Ending("interrupted") if error is None else ending(error)))
