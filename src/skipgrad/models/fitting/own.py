"""The user's own samples given to a model as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from skipgrad.core import ModelError
from skipgrad.models.data.source import DataSource
from skipgrad.models.fitting import losses
from skipgrad.models.fitting.probe import probe
from skipgrad.models.source import ModelSource
from skipgrad.models.workload import Batch, Workload


def fit_own(source: ModelSource, data: DataSource, batch_size: int) -> Workload:
    """Inputs by position, or by keyword when a sample is a dict; the loss by what output and target are.

    Raises:
        ModelError: the forward raises on the first batch.
    """
    said = [data.about, *data.notes, "your own data go to the model as they are"]

    def prepare(x: Any, y: Any) -> Batch:
        if isinstance(x, dict):
            return Batch((), x, y, _count(x))
        args = tuple(x) if isinstance(x, (list, tuple)) else (x,)
        return Batch(args, {}, y, _count(x))

    name = f"{source.ref} on {data.ref}"
    work = Workload(name, "custom", tuple(said), source, data, batch_size, prepare, losses.custom)
    example = work.example
    doing = f"running the model {source.ref!r} on the data {data.ref!r}"
    try:
        probe(source, example.args, example.kwargs, doing)
    except ModelError:  # it may be that it needs numbers to look at
        probe(source, example.args, example.kwargs, doing, real=True)
    return work


def _count(value: Any) -> int:
    if isinstance(value, Tensor):
        return len(value)
    if isinstance(value, dict):
        value = tuple(value.values())
    return _count(value[0]) if isinstance(value, (list, tuple)) and value else 0
