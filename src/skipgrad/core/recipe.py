"""How a trial is trained: one record for the command line, the training, the run file and the report. No torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import nearest
from skipgrad.core.run import Trial

OptimizerName = Literal["sgd", "adam", "adamw"]
Precision = Literal["float32", "bfloat16", "float16"]
ScheduleName = Literal["constant", "cosine"]

DOING = "setting up the training"
# By the task, and by the optimizer: the values most people type first.
_BY_TASK: dict[str, OptimizerName] = {"language model": "adamw"}
_RATES: dict[str, float] = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}


@dataclass(frozen=True)
class Recipe:
    """The recipe of a trial, the same for a patient and its cures.

    Attributes:
        steps: optimizer steps of a trial.
        batch_size: samples of a batch.
        optimizer: sgd (momentum .9), adam or adamw; by the task when not given.
        lr: the learning rate; by the optimizer when not given.
        seed: of the weights, of the order of the data and of everything drawn while training.
        device: cpu, cuda, cuda:1, mps.
        precision: float32, or bfloat16 or float16 by autocast, the latter with a gradient scaler.
        compile: train under torch.compile.
        clip: largest norm of the whole gradient; no clipping when not given.
        weight_decay: in place of the optimizer's usual one (sgd 1e-4, adamw .01).
        warmup: share of the steps over which the rate rises linearly, 0 for none.
        schedule: constant, or cosine (to zero at the last step), after the warm-up.

    Raises:
        BadInput: for a value out of range. Whether this machine has the device is asked when training begins.
    """

    steps: int = 100
    batch_size: int = 64
    optimizer: str | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    compile: bool = False
    clip: float | None = None
    weight_decay: float | None = None
    warmup: float = 0.0
    schedule: str = "constant"

    schedules: ClassVar[tuple[str, ...]] = get_args(ScheduleName)

    def __post_init__(self) -> None:
        _count("steps", self.steps)
        _count("batch_size", self.batch_size)
        if self.lr is not None:
            _positive("lr", self.lr, "a learning rate such as 0.1 (sgd) or 0.001 (adam)")
        if self.clip is not None:
            _positive("clip", self.clip, "a largest gradient norm such as 1.0, or None")
        if self.weight_decay is not None and (not _is_number(self.weight_decay) or self.weight_decay < 0):
            raise BadInput(
                DOING, where="weight_decay", received=repr(self.weight_decay), todo="give a number from 0 on, or None"
            )
        if not _is_number(self.warmup) or not 0 <= self.warmup <= 1:
            raise BadInput(DOING, where="warmup", received=repr(self.warmup), todo="give a share of the steps, 0 to 1")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise BadInput(
                DOING, where="seed", received=repr(self.seed), todo="give a whole number from 0 to 4294967295"
            )
        if self.optimizer is not None:
            _choice("optimizer", self.optimizer, get_args(OptimizerName))
        _choice("precision", self.precision, get_args(Precision))
        _choice("schedule", self.schedule, self.schedules)

    def for_task(self, task: str) -> Self:
        """The recipe with what was left open filled in: the optimizer by the task, the rate by the optimizer."""
        optimizer = self.optimizer or _BY_TASK.get(task, "sgd")
        return replace(self, optimizer=optimizer, lr=_RATES[optimizer] if self.lr is None else self.lr)

    @property
    def rate(self) -> float:
        """The learning rate of a recipe in which it is settled."""
        assert self.lr is not None, "for_task settles it"
        return self.lr

    def trial(self, number: int = 0, remedy: str | None = None, *, measured: bool = False) -> Trial:
        """The record of a trial with this recipe."""
        return Trial(number, remedy, self.rate, self.seed, self.steps, measured)

    def meta(self) -> dict[str, Any]:
        """Its entries of `Run.meta`: its fields."""
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(DOING, where=name, received=repr(value), todo="give a whole number of at least 1")


def _positive(name: str, value: Any, example: str) -> None:
    if not _is_number(value) or value <= 0:
        raise BadInput(DOING, where=name, received=repr(value), todo=f"give a finite number above 0: {example}")


def _choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(DOING, where=name, received=repr(value), todo=nearest(str(value), known))
