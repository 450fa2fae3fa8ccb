"""A Lightning callback: the ledger is on while the Trainer fits."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skipgrad.core.endings import Ending, ending
from skipgrad.core.errors import BadInput
from skipgrad.core.extras import wanted
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import LossPoint
from skipgrad.finder import find
from skipgrad.integrations._loop import ledger_of
from skipgrad.writers.base import RowWriter

if TYPE_CHECKING:
    from skipgrad.ledger import Ledger

with wanted("train", "importing skipgrad.integrations.lightning"):
    from lightning.pytorch import Callback, LightningModule, Trainer

_DOING = "watching a Lightning fit"


class _Steps:
    """Stands in for the optimizer towards the ledger, and says when a step begins and ends.

    Lightning runs forward and backward in a closure *inside* ``optimizer.step``, so torch's own hooks before a step
    come too early to see its gradients.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._before: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._after: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self.begun = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return _registered(self._before, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return _registered(self._after, hook)

    def begin(self) -> None:
        """Gradients are there, weights have not moved."""
        self.begun = True
        for hook in list(self._before.values()):
            hook(self._optimizer, (), {})

    def end(self) -> None:
        """Weights have moved, if a step had begun."""
        if self.begun:
            self.begun = False
            for hook in list(self._after.values()):
                hook(self._optimizer, (), {})


def _registered(hooks: OrderedDict[int, Callable[..., Any]], hook: Callable[..., Any]) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


class SkipgradCallback(Callback):
    """Measures every skip of the module that a Trainer fits.

    The watch opens when training starts, once the sanity check of the validation loop is over, and closes when it
    ends, by an exception too; nothing is left on the module. Gradients of weights are those before Lightning clips
    them.

    Args:
        module: path of the submodule to watch, ``""`` for the LightningModule itself. Name the submodule when
            ``training_step`` calls ``self.net(x)`` rather than ``self(x)``.
        example: what the watched module's forward takes: a tensor, or a tuple of arguments. The LightningModule's
            ``example_input_array`` when None; without either, the watch waits for the first batch.
        graph: the skips, if they are known already.
        every: measure every so many steps.
        run: path of a run file to write (it must not exist), which ``skipgrad watch`` and ``skipgrad report`` open.
        writers: what else gets the rows, step by step; closed at the end.

    Attributes:
        ledger: the ledger; None before training starts.
        graph: the skips it measures, once they are known.

    Example:
        >>> from skipgrad.integrations.lightning import SkipgradCallback
        >>> watching = SkipgradCallback(run="fit.sqlite")
        >>> Trainer(callbacks=[watching]).fit(module, loader)  # doctest: +SKIP
        >>> watching.ledger.frame()  # doctest: +SKIP
    """

    def __init__(
        self,
        module: str = "",
        *,
        example: Any = None,
        graph: SkipGraph | None = None,
        every: int = 1,
        run: str | Path | None = None,
        writers: Sequence[RowWriter] = (),
    ) -> None:
        self.module, self.every = module, every
        self.graph = graph
        self.ledger: Ledger | None = None
        self._example, self._run, self._writers = example, run, writers
        self._steps: _Steps | None = None
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the watch."""
        if len(trainer.optimizers) > 1:
            raise BadInput(
                _DOING,
                received=f"{len(trainer.optimizers)} optimizers",
                todo="train with one, or use skipgrad.watch(model, graph, optimizer) around one of them",
            )
        watched = self._watched(pl_module)
        example = self._example if self._example is not None else pl_module.example_input_array
        if self.graph is None and example is not None:
            args, kwargs = _arguments(example, pl_module.device)
            self.graph = find(watched, *args, **kwargs)
        # In manual optimization ``optimizer.step()`` runs no closure, and may come several times a batch.
        manual = not pl_module.automatic_optimization
        self._steps = _Steps(trainer.optimizers[0]) if trainer.optimizers and not manual else None
        planned = trainer.estimated_stepping_batches
        self.ledger = ledger_of(
            watched,
            trainer.optimizers[0] if manual and trainer.optimizers else self._steps,
            graph=self.graph,
            every=self.every,
            run=self._run,
            writers=self._writers,
            loop="lightning.Trainer.fit",
            steps=int(planned) if planned < float("inf") else 0,
            name=type(pl_module).__name__ + (f".{self.module}" if self.module else ""),
            main=trainer.is_global_zero,
        )
        self.ledger.__enter__()
        self._start = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Tells the ledger that a step begins."""
        if self._steps is not None:
            self._steps.begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the loss, and tells the ledger that the step is over."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        # Under accumulation several batches share a step: the last one stands for it, as run files hold one.
        steps = self._steps is None or self._steps.begun
        if steps and self.ledger is not None and isinstance(loss, Tensor) and loss.numel() == 1:
            seconds = time.perf_counter() - self._start
            # What it hands on is divided by the number of batches it accumulates.
            value = float(loss.detach()) * (trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1)
            self.ledger.loss_at(LossPoint(0, max(0, trainer.global_step - 1), value, seconds))
        if self._steps is not None:
            self._steps.end()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the watch and writes the run file."""
        self._close(trainer, pl_module, Ending("done"))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same, when the fit is interrupted or fails."""
        self._close(trainer, pl_module, ending(exception))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The same, when neither came."""
        self._close(trainer, pl_module, Ending("interrupted"))

    def _close(self, trainer: Trainer, pl_module: LightningModule, end: Ending) -> None:
        if self.ledger is None or not self.ledger.is_open:
            return
        if self._steps is not None:
            self._steps.end()
        self.ledger.close(*end, trainer.global_step)
        self.graph = self.ledger.graph if self.graph is None else self.graph

    def _watched(self, pl_module: LightningModule) -> nn.Module:
        try:
            return pl_module.get_submodule(self.module)
        except AttributeError as error:
            raise BadInput(
                _DOING,
                where=f"module={self.module!r}",
                received=f"no submodule of that path in {type(pl_module).__name__}",
                todo="give one of: " + ", ".join(n for n, _ in list(pl_module.named_children())[:12]),
            ) from error


def _arguments(example: Any, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """An example as arguments on the module's device; a dict is taken as keyword arguments."""
    if isinstance(example, dict):
        return (), {k: _moved(v, device) for k, v in example.items()}
    args = example if isinstance(example, tuple | list) else (example,)
    return tuple(_moved(a, device) for a in args), {}


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
