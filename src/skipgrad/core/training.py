"""The recipe of a whole training: what a trial's recipe has, and what only a training needs. No torch."""

from __future__ import annotations

import ast
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from skipgrad.core.errors import BadInput
from skipgrad.core.recipe import DOING, Recipe, _choice, _count, _is_number, _positive
from skipgrad.core.registry import nearest

Schedule = Literal["constant", "cosine", "linear", "wsd", "multistep"]
DropSchedule = Literal["constant", "rising", "falling"]
Augmentation = Literal["none", "flip", "crop-flip", "resized-crop-flip"]

# Of the fields of a recipe those that may differ when a run goes on: they change no bit of its result.
FREE = frozenset({"workers"})


@dataclass(frozen=True)
class TrainingRecipe(Recipe):
    """The recipe of a training. A batch is what one optimizer step sees, over all micro-batches and processes.

    Attributes:
        epochs: passes over the training data; in place of ``steps`` when given.
        momentum: of sgd.
        nesterov: Nesterov's momentum, of sgd.
        betas: of adam and adamw.
        accumulate: micro-batches a step; they have ``batch_size / accumulate`` samples each.
        clip_factor: adaptive clipping (AGC, arXiv 2102.06171): largest ‖dL/dw‖ / ‖w‖ of a unit; .01 is usual.
        ema: decay of the running mean of the weights, .999 for example; evaluated and kept as the best weights.
        label_smoothing: share of the target spread over all classes.
        l1: λ₁ of the elastic net λ₁|w| + λ₂w², a proximal step after the optimizer's that makes exact zeros.
        l2: λ₂ of the same.
        schedule: constant, cosine, linear (to zero), wsd (constant, then linear to zero) or multistep, after the
            warm-up.
        milestones: of multistep, shares of the steps at which the rate is multiplied by gamma.
        gamma: of multistep.
        decay: of wsd, the share of the steps that fall.
        drop_schedule: probabilities of dropout and stochastic depth over the steps: constant, rising from 0, or falling
            to 0.
        checkpointing: memory for saved activations, "2GB", or a share of what a step saves, "0.5"; the rest is
            computed again in the backward.
        holdout: share of the data kept out of the training and evaluated on, where the data have no test part.
        eval_every: epochs from one evaluation to the next.
        patience: evaluations without a better one after which the training stops; never when not given.
        augment: none, flip, crop-flip (4 pixels of padding) or resized-crop-flip, drawn anew for each sample.
        workers: processes that load data; 0 for none. Changes no figure.
        measure_every: measure every so many steps, 0 for none; when not given it is chosen once, so that measuring
            costs at most one per cent of the time.

    Raises:
        BadInput: for a value out of range.
    """

    epochs: int | None = None
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    accumulate: int = 1
    clip_factor: float | None = None
    ema: float | None = None
    label_smoothing: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    decay: float = 0.2
    drop_schedule: str = "constant"
    checkpointing: str | None = None
    holdout: float = 0.1
    eval_every: int = 1
    patience: int | None = None
    augment: str = "none"
    workers: int = 0
    measure_every: int | None = None

    schedules: ClassVar[tuple[str, ...]] = get_args(Schedule)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("accumulate", "eval_every"):
            _count(name, getattr(self, name))
        for name in ("epochs", "patience"):
            if getattr(self, name) is not None:
                _count(name, getattr(self, name))
        for name in ("workers", "measure_every"):
            value = getattr(self, name)
            if value is not None and value != 0:
                _count(name, value)
        for name in ("momentum", "label_smoothing", "holdout"):
            _share(name, getattr(self, name), below=True)
        for name in ("gamma", "decay"):
            _share(name, getattr(self, name))
        for name in ("l1", "l2"):
            if not _is_number(getattr(self, name)) or getattr(self, name) < 0:
                raise BadInput(DOING, where=name, received=repr(getattr(self, name)), todo="give a number from 0 on")
        if self.ema is not None:
            _share("ema", self.ema, below=True)
        if self.clip_factor is not None:
            _positive("clip_factor", self.clip_factor, "0.01, or None")
        for name, many in (("betas", 2), ("milestones", None)):
            value = getattr(self, name)
            fits = isinstance(value, list | tuple) and (many is None or len(value) == many)
            if (
                not fits
                or not all(_is_number(v) and 0 <= v < 1 for v in value)
                or (many is None and list(value) != sorted(value))
            ):
                raise BadInput(DOING, where=name, received=repr(value), todo="give numbers from 0 to below 1, in order")
            object.__setattr__(self, name, tuple(value))
        if not isinstance(self.nesterov, bool):
            raise BadInput(DOING, where="nesterov", received=repr(self.nesterov), todo="give true or false")
        if self.nesterov and not self.momentum:
            raise BadInput(DOING, where="nesterov", received="momentum 0", todo="give a momentum such as 0.9")
        _choice("drop_schedule", self.drop_schedule, get_args(DropSchedule))
        _choice("augment", self.augment, get_args(Augmentation))
        if self.checkpointing is not None:
            object.__setattr__(self, "checkpointing", str(self.checkpointing))
            memory(self.checkpointing)
        if self.batch_size % self.accumulate:
            raise BadInput(
                DOING,
                where="accumulate",
                received=f"{self.accumulate} micro-batches of a batch of {self.batch_size}, which it does not divide",
                todo=f"give a batch size that is a multiple of {self.accumulate}",
            )

    @classmethod
    def of(cls, recipe: Recipe) -> TrainingRecipe:
        """A trial's recipe as a training's; one that is one already is handed on."""
        return recipe if isinstance(recipe, TrainingRecipe) else cls(**asdict(recipe))

    def with_values(self, values: Mapping[str, Any]) -> TrainingRecipe:
        """The recipe with these fields.

        Raises:
            BadInput: no field of that name, with the nearest; or a value out of range.
        """
        known = [f.name for f in fields(self)]
        for key in values:
            if key not in known:
                raise BadInput(
                    DOING, where=str(key), received="no such entry of a recipe", todo=nearest(str(key), known)
                )
        return replace(self, **values)

    def to_toml(self) -> str:
        """The recipe as a TOML file; what is not given stands in a comment."""
        lines = []
        for key, value in asdict(self).items():
            lines.append(f"# {key} is not given" if value is None else f"{key} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def read_toml(path: Path) -> dict[str, Any]:
    """The entries of a recipe file.

    Raises:
        BadInput: no such file, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(
            "reading a recipe", where=str(path), received=str(error.strerror), todo="check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput("reading a recipe", where=str(path), received=str(error), todo="write it as TOML") from error


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """``["lr=0.1", "schedule=cosine"]`` as values; what is no Python or TOML literal is text.

    Raises:
        BadInput: a word without ``=``, or a name given twice.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise BadInput("reading --set", received=repr(pair), todo="write KEY=VALUE, e.g. --set lr=0.1")
        if key in out:
            raise BadInput("reading --set", where=key, received=f"{out[key]!r} and {text!r}", todo="give it once")
        out[key] = _value(text.strip())
    return out


def _value(text: str) -> Any:
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def memory(text: str) -> tuple[float, bool]:
    """``"2GB"`` → (2e9, False): bytes; ``"0.5"`` → (.5, True): a share.

    Raises:
        BadInput: neither.
    """
    units = {
        "kb": 1e3,
        "mb": 1e6,
        "gb": 1e9,
        "tb": 1e12,
        "kib": 2**10,
        "mib": 2**20,
        "gib": 2**30,
        "tib": 2**40,
        "b": 1,
    }
    low = text.strip().lower()
    for unit in sorted(units, key=len, reverse=True):
        if low.endswith(unit):
            number, factor, share = low[: -len(unit)], units[unit], False
            break
    else:
        number, factor, share = low, 1.0, True
    try:
        value = float(number) * factor
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0 or (share and value > 1):
        raise BadInput(
            "reading how much memory activations may take",
            received=repr(text),
            todo="give bytes with a unit, '2GB' or '500MiB', or a share of what a step saves, '0.5'",
        )
    return value, share


def _share(name: str, value: Any, below: bool = False) -> None:
    if not _is_number(value) or not 0 <= value <= 1 or (below and value == 1):
        raise BadInput(DOING, where=name, received=repr(value), todo=f"give a share, 0 to {'below ' * below}1")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
