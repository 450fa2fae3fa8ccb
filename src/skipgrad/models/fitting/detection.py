"""Scenes and boxes given to a detector that makes its losses itself, as torchvision's do."""

from __future__ import annotations

from typing import Any

from skipgrad.core import DataError
from skipgrad.models.data.source import DataSource
from skipgrad.models.fitting import losses
from skipgrad.models.fitting.probe import probe
from skipgrad.models.source import ModelSource
from skipgrad.models.workload import Batch, Workload


def fit_detection(source: ModelSource, data: DataSource, batch_size: int) -> Workload:
    """Images and targets by position; the loss is the sum of the detector's.

    Raises:
        DataError: a detector with data without boxes, another model with data that have them, or too few classes.
        ModelError: the forward raises on the first batch.
    """
    doing = f"fitting the data {data.ref!r} to the model {source.ref!r}"
    if source.kind != "detection":
        raise DataError(
            doing,
            received="scenes with boxes, for a model that is no detector",
            todo="use a detector, for example skipgrad:fasterrcnn or torchvision:retinanet_resnet50_fpn, or other data",
        )
    if data.task != "detection":
        raise DataError(
            doing,
            received=f"{data.task} data, for a detector, which learns from boxes",
            todo="use --data detection, or your own data that return (images, targets) as torchvision has them",
        )
    said = [data.about, *data.notes, "the loss is the sum of the losses that the detector returns"]
    name = source.free("classes")
    assert data.classes is not None
    if name is not None and source.defaults.get("classes") != data.classes:
        said.append(f"the model is built with {name}={data.classes}: the kinds in the data, and the background")
        source = source.with_args(**{name: data.classes})
    elif name is None and (source.role("classes") or 0) < data.classes:
        raise DataError(
            doing,
            received=f"labels up to {data.classes - 1}, for {source.role('classes')} classes with the background",
            todo=f"build it with num_classes={data.classes}, or leave that out",
        )

    def prepare(x: Any, y: Any) -> Batch:
        return Batch((list(x), list(y)), {}, list(y), len(x))

    work = Workload(
        f"{source.ref} on {data.ref}", "detection", tuple(said), source, data, batch_size, prepare, losses.detection
    )
    batch = work.example
    probe(source, (batch.args[0][:2], batch.args[1][:2]), {}, f"running the model {source.ref!r}", real=True)
    return work
