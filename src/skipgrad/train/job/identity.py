"""Whether a checkpoint is of the training that is asked for."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from skipgrad.core import BadInput
from skipgrad.core.training import FREE, TrainingRecipe
from skipgrad.models import Workload
from skipgrad.train.group import Group
from skipgrad.train.job.options import TrainOptions
from skipgrad.train.saving import Saved


def identity(options: TrainOptions, recipe: TrainingRecipe, work: Workload, group: Group) -> dict[str, Any]:
    """What must be the same when a training goes on, as plain data."""
    kept = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items() if k not in FREE}
    return {
        "model": options.model,
        "model_args": {k: repr(v) for k, v in sorted(options.model_args.items())},
        "data": options.data,
        "samples": work.data.size,
        "treatment": options.treatment,
        "strategy": group.strategy,
        "recipe": kept,
    }


def check_same(saved: Saved, same: dict[str, Any]) -> None:
    """Refuses to go on with another training.

    Raises:
        BadInput: model, data, recipe or the number of processes differ; says which.
    """
    before = saved.about["of"]
    changed = [f"{k}: {before.get(k)!r} became {v!r}" for k, v in same.items() if k != "recipe" and before.get(k) != v]
    old, new = before["recipe"], same["recipe"]
    changed += [f"{k}: {old.get(k)!r} became {new.get(k)!r}" for k in {**old, **new} if old.get(k) != new.get(k)]
    if changed:
        raise BadInput(
            "going on with a training",
            where=str(saved.path),
            received="; ".join(changed),
            todo="give the command it was begun with, or another --out",
        )
