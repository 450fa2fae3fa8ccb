"""How a trial is trained: the budget and the recipe, the same for a patient and its cures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import torch

from skipgrad.core.errors import BadInput
from skipgrad.core.registry import nearest
from skipgrad.core.run import Trial
from skipgrad.train.optimizers import OptimizerName
from skipgrad.train.precision import Precision
from skipgrad.train.schedule import ScheduleName

_DOING = "setting up the training"


@dataclass(frozen=True)
class Settings:
    """The recipe of a trial.

    Attributes:
        steps: optimizer steps.
        batch_size: examples a step; for whoever builds the workload, whose batches have that size.
        optimizer: ``"sgd"`` (momentum .9, weight decay 1e-4), ``"adam"`` or ``"adamw"`` (weight decay .01).
        lr: learning rate.
        seed: seed of the weights, of the order of the data and of everything drawn while training.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"`` …
        precision: ``"float32"``, or ``"bfloat16"`` / ``"float16"``: autocast, the latter with a gradient scaler.
        compile: run the model through ``torch.compile``.
        clip: largest norm of the whole gradient; None for no clipping.
        weight_decay: in place of the optimizer's usual one.
        warmup: share of the steps over which the rate rises linearly, 0 for none.
        schedule: ``"constant"`` or ``"cosine"`` (to zero at the last step), after the warm-up.

    Raises:
        BadInput: for a value out of range, or a device that this machine has not.
    """

    steps: int = 200
    batch_size: int = 64
    optimizer: OptimizerName = "sgd"
    lr: float = 0.1
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "float32"
    compile: bool = False
    clip: float | None = None
    weight_decay: float | None = None
    warmup: float = 0.0
    schedule: ScheduleName = "constant"

    def __post_init__(self) -> None:
        _count("steps", self.steps)
        _count("batch_size", self.batch_size)
        _positive("lr", self.lr, "a learning rate such as 0.1 (sgd) or 0.001 (adam)")
        if self.clip is not None:
            _positive("clip", self.clip, "a largest gradient norm such as 1.0, or None")
        if self.weight_decay is not None and (not _is_number(self.weight_decay) or self.weight_decay < 0):
            raise BadInput(
                _DOING, where="weight_decay", received=repr(self.weight_decay), todo="give a number from 0 on, or None"
            )
        if not _is_number(self.warmup) or not 0 <= self.warmup <= 1:
            raise BadInput(_DOING, where="warmup", received=repr(self.warmup), todo="give a share of the steps, 0 to 1")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise BadInput(
                _DOING, where="seed", received=repr(self.seed), todo="give a whole number from 0 to 4294967295"
            )
        _choice("optimizer", self.optimizer, get_args(OptimizerName))
        _choice("precision", self.precision, get_args(Precision))
        _choice("schedule", self.schedule, get_args(ScheduleName))
        _device(self.device)

    def trial(self, number: int = 0, remedy: str | None = None, *, measured: bool = False) -> Trial:
        """The record of a trial with this recipe."""
        return Trial(number, remedy, self.lr, self.seed, self.steps, measured)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(_DOING, where=name, received=repr(value), todo="give a whole number of at least 1")


def _positive(name: str, value: Any, example: str) -> None:
    if not _is_number(value) or value <= 0:
        raise BadInput(_DOING, where=name, received=repr(value), todo=f"give a finite number above 0: {example}")


def _choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(_DOING, where=name, received=repr(value), todo=nearest(str(value), known))


def _device(name: Any) -> None:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()
        raise BadInput(
            _DOING,
            where="device",
            received=f"{name!r}" + (f" ({reason[0]})" if reason else ""),
            todo=f"this machine has: {', '.join(_devices())}",
        ) from error
    if device.type == "meta":
        raise BadInput(_DOING, where="device", received="'meta', which holds no values", todo="give 'cpu' or 'cuda'")


def _devices() -> list[str]:
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found
