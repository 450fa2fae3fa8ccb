"""A Lightning callback: the ledger is on while the Trainer fits."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from skipgrad.core.errors import BadInput, MissingExtra
from skipgrad.core.graph import SkipGraph
from skipgrad.core.run import LossPoint, Trial
from skipgrad.finder import find
from skipgrad.ledger import watch
from skipgrad.store import RunWriter

if TYPE_CHECKING:
    from skipgrad.ledger import Ledger

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise MissingExtra(
        "importing skipgrad.integrations.lightning",
        received="the library 'lightning' is not installed",
        todo="pip install 'skipgrad[train]'",
    ) from error

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
        self._begun = False

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self._optimizer.param_groups

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return _registered(self._before, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return _registered(self._after, hook)

    def begin(self) -> None:
        """Gradients are there, weights have not moved."""
        self._begun = True
        for hook in list(self._before.values()):
            hook(self._optimizer, (), {})

    def end(self) -> None:
        """Weights have moved, if a step had begun."""
        if self._begun:
            self._begun = False
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
        run: path of a run file to write (it must not exist), which ``skipgrad report`` opens.

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
    ) -> None:
        self.module, self.every = module, every
        self.graph = graph
        self.ledger: Ledger | None = None
        self._example, self._run = example, run
        self._stack = ExitStack()
        self._open = False
        self._steps: _Steps | None = None
        self._losses: list[LossPoint] = []
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
        self._steps = _Steps(trainer.optimizers[0]) if trainer.optimizers else None
        watching = watch(watched, self.graph, optimizer=cast(Any, self._steps), every=self.every)
        self.ledger = self._stack.enter_context(watching)
        self._open, self._losses, self._start = True, [], time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Tells the ledger that a step begins."""
        if self._steps is not None:
            self._steps.begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tells the ledger that the step is over, and keeps the loss."""
        if self._steps is not None:
            self._steps.end()
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            seconds = time.perf_counter() - self._start
            # Under accumulation several batches share a step: the last one stands for it, as run files hold one.
            point = LossPoint(0, max(0, trainer.global_step - 1), float(loss.detach()), seconds)
            if self._losses and self._losses[-1].step == point.step:
                self._losses.pop()
            self._losses.append(point)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the watch and writes the run file."""
        self._close(trainer, pl_module, "done")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same, when the fit is interrupted."""
        self._close(trainer, pl_module, "interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The same, when neither came."""
        self._close(trainer, pl_module, "interrupted")

    def _close(self, trainer: Trainer, pl_module: LightningModule, state: str) -> None:
        if not self._open:
            return
        self._open = False
        if self._steps is not None:
            self._steps.end()
        self._stack.close()
        assert self.ledger is not None
        found = self.ledger.measurements().graph
        self.graph = found if self.graph is None and len(found) else self.graph
        if self._run is not None and trainer.is_global_zero:
            self._write(self._run, trainer, pl_module, state)

    def _write(self, path: str | Path, trainer: Trainer, pl_module: LightningModule, state: str) -> None:
        assert self.ledger is not None
        rates = [g["lr"] for o in trainer.optimizers for g in o.param_groups]
        # The record wants a seed; Lightning's own is not ours to know.
        trial = Trial(0, None, float(rates[0]) if rates else 0.0, 0, trainer.global_step, measured=True)
        meta = {
            "model": type(pl_module).__name__ + (f".{self.module}" if self.module else ""),
            "data": "Lightning",
            "command": "lightning.Trainer.fit",
            "state": state,
            "versions": {"torch": torch.__version__},
        }
        with RunWriter.create(path, meta) as writer:
            if self.graph is not None:
                writer.graph(self.graph)
            ended = "done" if state == "done" else "interrupted"
            writer.trial(replace(trial, state=ended)).losses(self._losses)
            writer.skip_rows(0, self.ledger.rows()).layer_rows(0, self.ledger.layers())
            for note in self.ledger.notes:
                writer.note(note)

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
