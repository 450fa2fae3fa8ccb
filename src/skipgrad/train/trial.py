"""One training run under a fixed budget."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from skipgrad.core.errors import BadInput, DataError, ModelError
from skipgrad.core.recipe import OptimizerName, Precision, Recipe, ScheduleName
from skipgrad.core.run import LossPoint, Trial
from skipgrad.instrument.faults import explained
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.instrument.threads import Threads
from skipgrad.train.clock import Clock
from skipgrad.train.device import device_of
from skipgrad.train.optimizers import make_optimizer
from skipgrad.train.precision import autocast, scaler
from skipgrad.train.protocols import Observe, OnStep, Prepare, Stop, WorkloadLike
from skipgrad.train.results import TrialResult
from skipgrad.train.schedule import Rates

# Added to the seed once the model is prepared, so that a remedy which draws random numbers does not change the
# dropout masks that patient and cure see.
AFTER_PREPARE = 1_000_003


def train_trial(
    workload: WorkloadLike,
    settings: Recipe,
    *,
    trial: Trial | None = None,
    prepare: Prepare | None = None,
    observe: Observe | None = None,
    on_step: OnStep | None = None,
    stop: Stop | None = None,
    threads: Threads | None = None,
) -> TrialResult:
    """Trains a fresh model of ``workload`` and records its loss at every step.

    The same settings give the same losses to the bit on a CPU with the same number of threads. The caller's random
    generators are left as they were. A loss that is not finite ends the trial as ``"diverged"``, which is a finding and
    no failure: its point is kept, and its backward still runs (an observer can then say where), but no step is taken
    with it.

    Time counts from just before ``prepare`` (a cure pays for what it measures), measuring and loading of data
    included; building model and optimizer is left out, and so is the first step when ``settings.compile`` is set, as
    that step is spent compiling.

    Args:
        workload: model, data and loss.
        settings: the recipe.
        trial: the record to number the losses by; made from the settings when None.
        prepare: called with the fresh model before the optimizer is made; edits it (a remedy) and returns the
            treatment, whose ``attach(optimizer)`` is called, or None. The treatment is undone at the end of the
            trial, however it ends: one that steers gradients would otherwise go on measuring.
        observe: called with model and optimizer; the context manager it returns (a ledger) spans the steps.
        on_step: called with every `LossPoint` as soon as there is one; it is outside the clock.
        stop: asked after every step; True ends the trial as ``"interrupted"``.
        threads: chooses torch's threads by the steps; the caller's number is left alone when None.

    Returns:
        The trial in its last state, and its losses.

    Raises:
        ModelError: when the model's forward, backward or the loss raises; names the module and the inputs.
        DataError: when the data end before the steps do.
        BadInput: when ``trial`` contradicts ``settings``, or the model has nothing to train.
        RemedyRefused: from ``prepare``.
        KeyboardInterrupt: passed through; what was recorded has been handed to ``on_step``.
    """
    settings = settings.for_task(getattr(workload, "task", ""))
    trial = settings.trial() if trial is None else trial
    if (trial.rate, trial.seed, trial.steps) != (settings.lr, settings.seed, settings.steps):
        raise BadInput(
            "starting a trial",
            where="trial",
            received=f"rate {trial.rate}, seed {trial.seed}, steps {trial.steps} against settings of rate "
            f"{settings.lr}, seed {settings.seed}, steps {settings.steps}",
            todo="make the record with settings.trial(number, remedy)",
        )
    device = device_of(settings.device)
    with kept_random(device), ExitStack() as stack:
        seed_all(settings.seed)
        model = workload.build().to(device).train()
        # What is compiled is what remedies and observers get: they watch the object that is called. It compiles at its
        # first call, so a remedy's edit is in it.
        if settings.compile:
            model = cast(nn.Module, torch.compile(model))
        batches = workload.batches(settings.seed)
        clock = Clock()
        treatment = prepare(model) if prepare is not None else None
        lines = getattr(treatment, "lines", "")
        if treatment is not None:
            stack.callback(treatment.undo)
        model.train()
        with clock.paused():  # a process's first optimizer imports for seconds
            optimizer = make_optimizer(
                cast(OptimizerName, settings.optimizer), model.parameters(), settings.rate, settings.weight_decay
            )
        if treatment is not None:
            treatment.attach(optimizer)
        seed_all(settings.seed + AFTER_PREPARE)
        step = _Step(workload, settings, model, optimizer, device)
        observation = observe(model, optimizer) if observe is not None else None
        told = getattr(observation, "scaled_by", None)
        if settings.precision == "float16" and told is not None:
            told(step.scaler)  # a ledger divides the scale out of its figures
        stack.enter_context(observation if observation is not None else nullcontext())
        losses: list[LossPoint] = []
        state = "done"
        for number in range(settings.steps):
            compiling = settings.compile and number == 0
            with clock.paused() if compiling else nullcontext():
                batch = _next(batches, number, workload)
                with threads.step(number, fixed=settings.compile) if threads is not None else nullcontext():
                    loss = step(number, batch)
            point = LossPoint(trial.id, number, loss, clock.seconds())
            losses.append(point)
            with clock.paused():
                if on_step is not None:
                    on_step(point)
                stopped = stop is not None and stop(point)
            if not math.isfinite(loss):
                state = "diverged"
                break
            if stopped and number + 1 < settings.steps:
                state = "interrupted"
                break
    return TrialResult(replace(trial, state=state), tuple(losses), lines)


class _Step:
    """One optimizer step; returns the loss as a number."""

    def __init__(
        self,
        workload: WorkloadLike,
        settings: Recipe,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
    ) -> None:
        self._workload, self._settings, self._model = workload, settings, model
        self._optimizer, self._device = optimizer, device
        self._rates = Rates(optimizer, settings.steps, settings.warmup, cast(ScheduleName, settings.schedule))
        self._precision: Precision = cast(Precision, settings.precision)
        self.scaler = scaler(self._precision, device)

    def __call__(self, number: int, batch: Any) -> float:
        settings, optimizer, scale = self._settings, self._optimizer, self.scaler
        batch = batch.to(self._device)
        self._rates.set(number)
        optimizer.zero_grad(set_to_none=True)
        with autocast(self._precision, self._device):
            with self._explained("running the forward of", number, batch):
                output = self._model(*batch.args, **batch.kwargs)
            with self._explained("computing the loss of", number, batch):
                loss = self._workload.loss(output, batch)
                _check_loss(loss, self._workload.name)
        with self._explained("running the backward of", number, batch):
            scale.scale(loss).backward()
        value = float(loss.detach().item())
        if math.isfinite(value):
            scale.unscale_(optimizer)
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(self._model.parameters(), settings.clip)
            scale.step(optimizer)
            scale.update()
        return value

    def _explained(self, doing: str, number: int, batch: Any) -> AbstractContextManager[None]:
        return explained(self._model, f"{doing} {self._workload.name} (step {number})", batch.args, batch.kwargs)


def _check_loss(loss: Any, name: str) -> None:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        received = f"shape {list(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ModelError(f"computing the loss of {name}", received=received, todo="return one number, e.g. a mean")
    if not loss.requires_grad:
        raise ModelError(
            f"computing the loss of {name}",
            received="a loss that depends on no trainable weight",
            todo="compute it from the model's output, without .detach(), .item() or torch.no_grad()",
        )


def _next(batches: Iterator[Any], number: int, workload: WorkloadLike) -> Any:
    batch = next(batches, None)
    if batch is None:
        raise DataError(
            f"training {workload.name}",
            received=f"no batch at step {number}: the data ended",
            todo="let batches(seed) start over when the data end",
        )
    return batch
