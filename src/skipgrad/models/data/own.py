"""``package.module:callable`` and ``file.py:callable`` returning a Dataset or DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from skipgrad.core import BadInput, DataError, SkipgradError
from skipgrad.instrument.faults import shorten
from skipgrad.models.data.source import DataSource, Task
from skipgrad.models.importing import import_callable

_SCANNED = 2048


def load(ref: str, prefixes: tuple[str, ...]) -> DataSource:
    """The user's own data. The callable is called without arguments.

    Samples are ``(input, target)``; a dict is taken as keyword inputs, of which ``target`` (or ``labels`` with
    an output that has no loss of its own) is the target. Pairs of an image (C, H, W) and a class number are
    classification, of an image and an (H, W) integer mask segmentation, of two equally long id sequences a
    language model; everything else goes to the model as it is. A DataLoader's data set and collate function are
    used, with skipgrad's own batch size and order.

    Raises:
        DataError: the callable raises, or returns something else.
    """
    call = import_callable(ref, "data", DataError, prefixes)
    doing = f"loading the data {ref!r}"
    try:
        made = call()
    except SkipgradError:
        raise
    except Exception as error:
        raise DataError(
            doing,
            where=getattr(call, "__name__", ref),
            received=f"{type(error).__name__}: {shorten(str(error))}",
            todo="make it return a Dataset or DataLoader when called without arguments",
        ) from error
    collate, notes = default_collate, ()
    stream_of: Any = None
    if isinstance(made, DataLoader):
        collate = made.collate_fn or default_collate
        notes = ("of your DataLoader the data set and its collate function are used, not its batch size or order",)
        if isinstance(made.dataset, IterableDataset):
            stream_of, notes = made, ("your DataLoader reads a stream: batches come in its own size and order",)
        made = made.dataset
    elif isinstance(made, IterableDataset):
        stream_of, notes = made, ("your data set is a stream: batches come in its own order",)
    if stream_of is not None:
        return _stream(ref, doing, stream_of, collate, notes)
    if not (isinstance(made, Dataset) or (hasattr(made, "__getitem__") and hasattr(made, "__len__"))):
        raise DataError(
            doing,
            received=f"a {type(made).__name__}",
            todo="return a torch Dataset or DataLoader, or a sequence of samples",
        )
    return _map_style(ref, doing, made, collate, notes)


def _map_style(ref: str, doing: str, data: Any, collate: Any, notes: tuple[str, ...]) -> DataSource:
    size = len(data)
    if size == 0:
        return DataSource(ref, "custom", 0, lambda indices: (None, None))

    def sample(index: int) -> Any:
        try:
            return data[index]
        except Exception as error:
            raise DataError(
                doing,
                where=f"sample {index}",
                received=f"{type(error).__name__}: {shorten(str(error))}",
                todo="mend the data set's __getitem__",
            ) from error

    def gather(indices: Sequence[int]) -> tuple[Any, Any]:
        samples = [_tensors(sample(index)) for index in indices]
        try:
            return _split(collate(samples), doing)
        except SkipgradError:
            raise
        except Exception as error:
            raise DataError(
                doing,
                where=f"samples {list(indices)[:4]} …",
                received=f"{type(error).__name__}: {shorten(str(error))}",
                todo="return samples of one shape, or a DataLoader with a collate_fn",
            ) from error

    x, y = gather([0])
    task, shape = _task(x, y)
    classes = _classes(data, sample, size, task) if task != "custom" else None
    about = f"{size:,} samples of your own"
    return DataSource(ref, task, size, gather, shape, classes, about, notes=notes, foreign=True)


def _stream(ref: str, doing: str, data: Any, collate: Any, notes: tuple[str, ...]) -> DataSource:
    def batches(seed: int, batch_size: int) -> Iterator[tuple[Any, Any]]:
        ready = isinstance(data, DataLoader)
        while True:
            state, count, waiting = torch.random.get_rng_state(), 0, []
            torch.manual_seed(seed)
            stream = iter(data)
            torch.random.set_rng_state(state)
            for item in stream:
                count += 1
                if ready:
                    yield _split(item, doing)
                    continue
                waiting.append(_tensors(item))
                if len(waiting) == batch_size:
                    yield _split(collate(waiting), doing)
                    waiting = []
            if count == 0 or (not ready and count < batch_size):
                raise DataError(doing, received=f"a stream of {count} samples", todo="give one with at least a batch")

    return DataSource(
        ref, "custom", None, lambda indices: (None, None), about="a stream of your own", stream=batches, notes=notes
    )


def _tensors(value: Any) -> Any:
    """Images and arrays as float tensors, channels first."""
    if isinstance(value, tuple):
        return tuple(_tensors(entry) for entry in value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if hasattr(value, "convert") and hasattr(value, "getbands"):  # a PIL image, without importing Pillow
        pixels = np.asarray(value, dtype=np.float32) / 255
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
    return value


def _split(batch: Any, doing: str) -> tuple[Any, Any]:
    if isinstance(batch, dict):
        target = batch.get("target", batch.get("labels"))
        return {key: value for key, value in batch.items() if key != "target"}, target
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        return batch[0], batch[1]
    raise DataError(
        doing,
        received=f"a batch that is a {type(batch).__name__}"
        + (f" of {len(batch)}" if isinstance(batch, (list, tuple)) else ""),
        todo="return samples (input, target), or dicts of the forward's keyword inputs",
    )


def _task(x: Any, y: Any) -> tuple[Task, tuple[int, ...]]:
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)) or y.is_floating_point():
        return "custom", tuple(x.shape[1:]) if isinstance(x, Tensor) else ()
    shape = tuple(x.shape[1:])
    if x.is_floating_point() and x.ndim == 4 and x.shape[-1] == x.shape[-2]:
        if y.ndim == 1:
            return "classification", shape
        if y.ndim == 3 and y.shape[1:] == x.shape[2:]:
            return "segmentation", shape
    if not x.is_floating_point() and x.ndim == 2 and x.shape == y.shape:
        return "language model", shape
    return "custom", shape


def _classes(data: Any, sample: Any, size: int, task: Task) -> int:
    """From the data set's ``classes``, its ``targets``, or the highest label of up to 2,048 samples spread over it."""
    if task == "classification":
        if isinstance(getattr(data, "classes", None), (list, tuple)):
            return len(data.classes)
        targets = getattr(data, "targets", None)
        if isinstance(targets, (list, tuple, Tensor, np.ndarray)) and len(targets) == size:
            return int(max(targets)) + 1
    highest = 0
    for index in np.unique(np.linspace(0, size - 1, min(size, _SCANNED)).astype(int)).tolist():
        x, y = sample(index)
        highest = max(highest, int(torch.as_tensor(y).max()))
        if task == "language model":
            highest = max(highest, int(torch.as_tensor(x).max()))
    if highest < 0:
        raise BadInput("counting classes", received=f"the highest label is {highest}", todo="number classes from 0")
    return highest + 1
