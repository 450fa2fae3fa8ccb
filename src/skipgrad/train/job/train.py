"""Training a model for real, in a folder: what was done is never lost, and the same command goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from skipgrad.core import BadInput, ending
from skipgrad.core.registry import nearest
from skipgrad.core.training import TrainingRecipe
from skipgrad.finder import find
from skipgrad.instrument.cpus import allowed_cpus
from skipgrad.instrument.seeding import kept_random
from skipgrad.instrument.state import kept
from skipgrad.instrument.threads import Threads, parse
from skipgrad.models import Workload, fit
from skipgrad.store import RUN, make_folder
from skipgrad.train.clock import Clock
from skipgrad.train.group import Group
from skipgrad.train.job.course import Course, Setting
from skipgrad.train.job.evaluate import figure_of
from skipgrad.train.job.identity import check_same, identity
from skipgrad.train.job.options import TrainOptions, TrainResult
from skipgrad.train.job.record import Record
from skipgrad.train.job.signals import Wish, wishes
from skipgrad.train.parallel import processes, told_of_lost
from skipgrad.train.protocols import Prepare
from skipgrad.train.saving import Checkpoints, Saved, locked
from skipgrad.train.session import Session
from skipgrad.train.settle import settle
from skipgrad.writers import WRITERS

# stage, steps done, steps in all, what is going on
Progress = Callable[[str, int, int, str], Any]
DOING = "training into a folder"


def train(
    options: TrainOptions,
    progress: Progress | None = None,
    group: Group | None = None,
    prepare: Prepare | None = None,
) -> TrainResult:
    """Trains a model, evaluates it each epoch and keeps its best and last weights in a folder.

    The folder holds ``run.sqlite`` (what ``skipgrad watch`` and ``report`` read), ``checkpoint.safetensors`` and the
    one before, ``last.safetensors`` and ``best.safetensors``. When the process is killed, the same call goes on from
    the last checkpoint, and weights, losses and rows become bitwise those of a training that was not (on the same kind
    of processor, with the same number of threads, which the checkpoint remembers).

    Args:
        options: what to train.
        progress: called with (stage, steps done, steps in all, note) as it goes.
        group: the processes that train together; those ``torchrun`` started, or this one alone, when None.

        prepare: edits the fresh model (a remedy: `skipgrad.race.prepare_with`) and returns the treatment, which is
            attached to the optimizer and undone at the end. What it does to the model must be the same each time; what
            it remembers from step to step it hands out by ``state_dict()``. Name it in ``options.treatment``.

    Returns:
        What became of it. A loss that is not finite is a training that failed, and no error.

    Raises:
        SkipgradError: a mistake of the user's; the last checkpoint is intact.
        KeyboardInterrupt: a second Ctrl-C; the first saves and returns ``"interrupted"``.
    """
    with ExitStack() as stack:
        wish = stack.enter_context(wishes())
        if group is None:
            group = stack.enter_context(processes(options.strategy, options.recipe.device, options.timeout))
        tell = progress if progress is not None and group.rank == 0 else _silent
        with told_of_lost(group):
            return _Training(options, tell, group, wish, stack, prepare).run()


def _silent(stage: str, done: int, total: int, note: str) -> None:
    """Nobody is told."""


class _Training:
    def __init__(
        self,
        options: TrainOptions,
        progress: Progress,
        group: Group,
        wish: Wish,
        stack: ExitStack,
        prepare: Prepare | None,
    ) -> None:
        self.prepare = prepare
        self.options, self.progress, self.group, self.wish, self.stack = options, progress, group, wish, stack
        self.device = group.device(options.recipe.device)
        check_split(options.recipe, group.world)
        for kind in options.log:
            if kind not in WRITERS:
                raise BadInput("writing a log", where="--log", received=repr(kind), todo=nearest(kind, WRITERS))
        parse(options.threads)
        self.folder = Path(options.out)
        if group.rank == 0:
            make_folder(options.out, options.model, options.data)
            stack.enter_context(locked(self.folder))
        self.checkpoints = Checkpoints(self.folder)
        self.left_out: list[str] = []

    def run(self) -> TrainResult:
        options = self.options
        saved = self.checkpoints.read()
        if saved is None:
            self._check_free()
        self.progress("fitting model and data", 0, 0, f"{options.model} on {options.data}")
        work, held, recipe = self._fitted()
        self.recipe = recipe
        same = identity(options, recipe, work, self.group)
        if saved is not None:
            check_same(saved, same)
            if saved.about["state"] in ("finished", "stopped early", "failed"):
                return self._over(saved, work)
        self._threads(work, saved)
        with kept_random(self.device):
            return self._train(work, held, saved, same)

    def _check_free(self) -> None:
        """Refuses a folder that another job has written to, and going on where there is nothing to go on with."""
        if self.options.resume:
            raise BadInput(
                DOING,
                where=str(self.folder),
                received="no checkpoint to go on with",
                todo="leave --resume out to begin anew, or check the path",
            )
        if self.group.rank == 0:
            Record.check_free(self.folder / RUN, self.options)

    def _fitted(self) -> tuple[Workload, Workload | None, TrainingRecipe]:
        """The workloads to train and to evaluate on, and the recipe with nothing left open."""
        options, recipe = self.options, self.options.recipe
        micro = recipe.batch_size // recipe.accumulate // self.group.world
        whole = fit(options.model, options.model_args, options.data, batch_size=micro)
        if options.skip_bad:
            self.progress("reading all data", 0, 0, "to leave out what cannot be read")
            whole, self.left_out = whole.readable()
        recipe = recipe.for_task(whole.task)
        work, held = whole.held_out(recipe.holdout)
        work = replace(work, augment=recipe.augment)
        if recipe.label_smoothing:
            own = {
                "custom": "your own data, whose loss is the model's or by the targets' type",
                "detection": "a detector, which makes its own loss",
            }
            if work.task in own:
                raise BadInput(
                    "smoothing labels",
                    received=own[work.task],
                    todo="leave label_smoothing out, and smooth the labels in the model's own loss",
                )
            work = replace(work, objective=partial(work.objective, label_smoothing=recipe.label_smoothing))
        size = work.data.size
        if size is not None and size < recipe.batch_size:
            raise BadInput(
                DOING,
                where=options.data,
                received=f"{size} samples to train on, for batches of {recipe.batch_size}",
                todo=f"use a batch size of at most {size}, or hold out less (holdout)",
            )
        each = None if size is None else size // recipe.batch_size
        if recipe.epochs is not None:
            if each is None:
                raise BadInput(
                    DOING, where="epochs", received="a stream of data, which has no end", todo="give steps instead"
                )
            recipe = replace(recipe, steps=recipe.epochs * each)
        self.each = each or recipe.steps
        return work, held, recipe

    def _threads(self, work: Workload, saved: Saved | None) -> None:
        """Sets torch's threads: as asked for, as before, or as many as this process may use."""
        wanted = self.options.threads
        if wanted == "auto" and saved is None:
            with Threads("auto") as threads:
                self.progress("choosing threads", 0, 0, "by a few steps")
                settle(work, self.recipe, threads)
                wanted = threads.chosen
        if wanted is None or wanted == "auto":
            usable = min(torch.get_num_threads(), allowed_cpus())
            wanted = saved.about["threads"] if saved is not None else usable
        before = torch.get_num_threads()
        if wanted != before:
            torch.set_num_threads(int(wanted))
            self.stack.callback(torch.set_num_threads, before)

    def _train(self, work: Workload, held: Workload | None, saved: Saved | None, same: dict[str, Any]) -> TrainResult:
        recipe, group = self.recipe, self.group
        session = Session(work, recipe, self.device, group)
        session.prepare(self.prepare)
        if session.treatment is not None:
            self.stack.callback(session.treatment.undo)
        graph = None
        if recipe.measure_every != 0 and group.rank == 0:  # before it is spread over processes
            self.progress("finding skips", 0, 0, "")
            graph = replace(self._skips(session.model, work), model=self.options.model)
        session.equip(graph)
        session.start()
        first = 0
        if saved is not None:
            first = int(saved.about["step"])
            _load(session, saved, first)
        clock = Clock(saved.about["seconds"] if saved is not None else 0.0)
        batches = self._batches(work, first)
        record = Record(self.folder / RUN, self.options, recipe, work, active=group.rank == 0)
        setting = Setting(
            session=session,
            held=held,
            each=self.each,
            folder=self.folder,
            checkpoints=self.checkpoints,
            record=record,
            same=same,
            save_every=self.options.save_every,
            clock=clock,
            wish=self.wish,
            progress=self.progress,
        )
        with record.open(graph, going_on=saved is not None):
            if self.left_out:
                record.about(left_out=self.left_out)
                record.note(f"{len(self.left_out)} samples could not be read and are left out: {self.left_out[0]} …")
            if session.checkpointing is not None:
                record.about(checkpointing=str(session.checkpointing))
            try:
                return Course(setting, saved).run(batches, measuring=graph is not None)
            except BaseException as error:
                record.ends(ending(error))
                raise

    def _skips(self, model: nn.Module, work: Workload) -> Any:
        example = work.example.to(self.device)
        with kept(model):
            return find(model, *example.args, **example.kwargs)

    def _batches(self, work: Workload, first: int) -> Iterator[Any]:
        recipe, group = self.recipe, self.group
        return work.batches(
            recipe.seed,
            first * recipe.accumulate,
            group=recipe.accumulate * group.world,
            part=(group.rank, group.world),
            workers=recipe.workers,
            every_generator=True,
        )

    def _over(self, saved: Saved, work: Workload) -> TrainResult:
        """What the folder's training came to, when it is over already."""
        about = saved.about
        return TrainResult(
            about["state"],
            about["step"],
            self.recipe.steps,
            about["loss"],
            tuple(about["evaluations"]),
            about["best"],
            figure_of(work.task)[0],
            self.folder,
            reason=about.get("reason") or "it was over already; nothing was trained",
            rank=self.group.rank,
        )


def check_split(recipe: TrainingRecipe, world: int) -> None:
    """Refuses a batch that cannot be cut into equal micro-batches.

    Raises:
        BadInput: the processes and micro-batches do not divide it.
    """
    if recipe.batch_size % (recipe.accumulate * world):
        raise BadInput(
            DOING,
            where="batch_size",
            received=f"{recipe.batch_size} samples for {world} processes of {recipe.accumulate} micro-batches",
            todo=f"give a multiple of {recipe.accumulate * world}",
        )


def _load(session: Session, saved: Saved, step: int) -> None:
    try:
        session.load_state_dict(saved.state, step)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BadInput(
            DOING,
            where=str(saved.path),
            received=f"a checkpoint of another model: {' '.join(str(error).split())[:300]}",
            todo="build the model as it was when this training began, or give another --out",
        ) from error
