"""One training run under a fixed budget."""

from __future__ import annotations

import math
from contextlib import ExitStack, nullcontext
from dataclasses import replace

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import Recipe
from skipgrad.core.run import LossPoint, Trial
from skipgrad.instrument.seeding import kept_random
from skipgrad.instrument.threads import Threads
from skipgrad.train.clock import Clock
from skipgrad.train.device import device_of
from skipgrad.train.loop import advance
from skipgrad.train.protocols import Observe, OnStep, Prepare, Stop, WorkloadLike
from skipgrad.train.results import TrialResult
from skipgrad.train.session import Session


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
        session = Session(workload, settings, device)
        batches = workload.batches(settings.seed)
        clock = Clock()
        session.prepare(prepare)
        treatment = session.treatment
        if treatment is not None:
            stack.callback(treatment.undo)
        with clock.paused():  # a process's first optimizer imports for seconds
            session.equip()
        session.start()
        observation = observe(session.model, session.optimizer) if observe is not None else None
        told = getattr(observation, "scaled_by", None)
        if settings.precision == "float16" and told is not None:
            told(session.scaler)  # a ledger divides the scale out of its figures
        stack.enter_context(observation if observation is not None else nullcontext())
        losses: list[LossPoint] = []
        state, whole_from = "done", 0
        whole = getattr(treatment, "whole", True)
        for point in advance(session, batches, clock, trial=trial.id, threads=threads):
            losses.append(point)
            if not whole:
                whole, whole_from = getattr(treatment, "whole", True), point.step + 1
            if on_step is not None:
                on_step(point)
            stopped = stop is not None and stop(point)
            if not math.isfinite(point.loss):
                state = "diverged"
                break
            if stopped and point.step + 1 < settings.steps:
                state = "interrupted"
                break
    return TrialResult(replace(trial, state=state), tuple(losses), getattr(treatment, "lines", ""), whole_from)
