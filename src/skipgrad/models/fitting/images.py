"""Images fitted to a model, and a model to images: channels, size, head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from skipgrad.core import BadInput, DataError, ModelError
from skipgrad.models.data.source import DataSource
from skipgrad.models.fitting import losses
from skipgrad.models.fitting.probe import Probe, first_channels, probe
from skipgrad.models.source import ModelSource
from skipgrad.models.workload import Batch, Workload

_SIZES = (8, 16, 32, 64, 128, 224, 256, 299, 384)
_UNUSUAL = (28, 96)  # for nets that take these alone (MNIST, STL-10)


def fit_images(source: ModelSource, data: DataSource, batch_size: int) -> Workload:
    """Classes per image or per pixel, learned by a model that takes images.

    Raises:
        DataError: labels or shapes that the model cannot take.
        ModelError: its forward raises whatever the size of the images.
    """
    said = [data.about, *data.notes]
    doing = f"fitting the data {data.ref!r} to the model {source.ref!r}"
    if source.modality == "text":
        raise DataError(
            doing,
            received="images, for a model that reads token ids",
            todo="use --data text, or a model that takes images",
        )
    assert data.classes is not None
    if data.task == "segmentation" and source.as_segmentation is not None:
        source = source.as_segmentation()
    source = _head(source, data, said)
    source, channels = _channels(source, data, said)
    source, size, found = _size(source, data, channels, batch_size, doing, said)
    if data.resize is not None:
        data = data.resize(size)
    _check_head(source, data, found, doing, said)

    def prepare(x: Tensor, y: Tensor) -> Batch:
        _check_labels(y, data)
        x = _resized(_recoloured(x, channels), size)
        if data.task == "segmentation" and y.shape[-1] != size:
            y = F.interpolate(y[:, None].float(), size=(size, size), mode="nearest")[:, 0].long()
        return Batch(*source.inputs_of("image", x), y, len(x))

    objective = losses.segmentation if data.task == "segmentation" else losses.classification
    name = f"{source.ref} on {data.ref}"
    return Workload(name, data.task, tuple(said), source, data, batch_size, prepare, objective)


def _head(source: ModelSource, data: DataSource, said: list[str]) -> ModelSource:
    name = source.free("classes")
    if name is None or source.defaults.get("classes") == data.classes:
        return source
    said.append(f"the model is built with {name}={data.classes}, as many as the data have classes")
    return source.with_args(**{name: data.classes})


def _channels(source: ModelSource, data: DataSource, said: list[str]) -> tuple[ModelSource, int]:
    """The channels images get: the model's argument is set where it has one, else the images change."""
    native = data.shape[0]
    name = source.free("channels")
    if name is not None:
        if source.defaults.get("channels") != native:
            said.append(f"the model is built with {name}={native}, the channels of the images")
            source = source.with_args(**{name: native})
        return source, native
    wanted = source.role("channels") or first_channels(source) or native
    if wanted != native:
        if native == 1:
            said.append(f"images are repeated from 1 to {wanted} channels")
        elif wanted == 1:
            said.append(f"images are averaged from {native} channels to 1")
        else:
            raise DataError(
                f"fitting the data {data.ref!r} to the model {source.ref!r}",
                received=f"images of {native} channels; the model takes {wanted}",
                todo=f"give a model that takes {native} channels, or other images",
            )
    return source, wanted


def _size(
    source: ModelSource, data: DataSource, channels: int, batch_size: int, doing: str, said: list[str]
) -> tuple[ModelSource, int, Probe]:
    """The size images are given: their own where the net can use it, else the next that it can.

    A size is usable when the forward runs on it and no layer with a stride is left with maps of one pixel.
    """
    native = data.shape[-1]
    argument = source.free("size")
    declared = source.role("size")
    own: int | None = int(declared[0] if isinstance(declared, (tuple, list)) else declared) if declared else None
    fixed = argument is None and "size" in source.roles
    # A net that is built for one size runs at many where it makes no sense: one patch, one token.
    least = min(32, own) if argument and own else source.least
    sizes: list[int] = [own] if fixed and own else [n for n in _candidates(native, own) if n >= least]
    starved: tuple[ModelSource, int, Probe] | None = None
    first_error: ModelError | None = None
    for real in (False, True):
        for size in sizes:
            if real and size not in (max(native, least), 32, own):
                continue  # with real weights each try costs; these are the likely ones
            tried = source.with_args(**{argument: size}) if argument and size != own else source
            inputs = tried.inputs_of("image", torch.empty((batch_size, channels, size, size), device="meta"))
            if real:
                count = min(batch_size, 2)
                inputs = tried.inputs_of("image", torch.zeros((count, channels, size, size)))
            try:
                found = probe(tried, *inputs, doing, real=real)
            except ModelError as error:
                first_error = first_error or error
                continue
            if found.starved:
                starved = starved or (tried, size, found)
                continue
            return tried, size, _said_size(said, native, size, tried, argument, found)
        if starved is not None:
            tried, size, found = starved
            return tried, size, _said_size(said, native, size, tried, argument, found)
    assert first_error is not None
    raise first_error


def _said_size(
    said: list[str], native: int, size: int, source: ModelSource, argument: str | None, found: Probe
) -> Probe:
    if argument and argument in source.args:
        said.append(f"the model is built with {argument}={size}")
    if size != native:
        said.append(f"images are resized from {native}×{native} to {size}×{size} pixels, which the model needs")
    if found.starved:
        said.append("some layers with a stride see maps of one pixel: the images are small for this net")
    return found


def _candidates(native: int, own: int | None) -> list[int]:
    larger = [size for size in _SIZES if size > native]
    smaller = [size for size in reversed(_SIZES) if size < native]
    sizes = [native, *larger, *([own] if own else []), *_UNUSUAL, *smaller]
    return list(dict.fromkeys(sizes))


def _check_head(source: ModelSource, data: DataSource, found: Probe, doing: str, said: list[str]) -> None:
    """Raises DataError where the output cannot be compared with the labels."""
    shape, dims = found.shape, 4 if data.task == "segmentation" else 2
    if len(shape) != dims:
        what = "a mask for each image (segmentation)" if dims == 4 else "one class for each image (classification)"
        raise DataError(
            doing,
            where=source.ref,
            received=f"an output of shape {shape}; the data have {what}, which needs "
            + ("(N, classes, H, W)" if dims == 4 else "(N, classes)"),
            todo="choose data for this kind of model: digits has classes, shapes has masks",
        )
    assert data.classes is not None
    outputs = shape[1]
    if outputs < data.classes:
        given = source.roles.get("classes", "its head")
        raise DataError(
            doing,
            where=f"the head of {source.ref}",
            received=f"labels from 0 to {data.classes - 1}; the head has {outputs} outputs",
            todo=f"build the model with {given}={data.classes}"
            + (" or leave it out" if given in source.user_args else ""),
        )
    if outputs > data.classes:
        said.append(f"the head has {outputs} outputs, of which the data use the first {data.classes}")
    if dims == 4 and shape[2] != shape[3]:
        raise DataError(doing, received=f"an output of shape {shape}", todo="give a model that keeps images square")


def _check_labels(y: Tensor, data: DataSource) -> None:
    ignored = -100  # what cross entropy leaves out
    bad = (y != ignored) & ((y < 0) | (y >= (data.classes or 0)))
    if bool(bad.any()):
        raise DataError(
            f"reading the data {data.ref!r}",
            received=f"the label {int(y[bad][0])}; labels go from 0 to {(data.classes or 0) - 1}",
            todo="number the classes from 0; mark what is to be left out by -100",
        )


def _recoloured(x: Tensor, channels: int) -> Tensor:
    if x.shape[1] == channels:
        return x
    return x.expand(-1, channels, -1, -1).contiguous() if x.shape[1] == 1 else x.mean(1, keepdim=True)


def _resized(x: Tensor, size: int) -> Tensor:
    if x.shape[-1] == size and x.shape[-2] == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=size < x.shape[-1])


def check_batch(batch_size: int, data: DataSource) -> None:
    """Raises where no batch of this size can be drawn.

    Raises:
        BadInput: a batch of no samples.
        DataError: no data, or fewer than a batch.
    """
    if batch_size < 1:
        raise BadInput("drawing batches", received=f"batch_size={batch_size}", todo="give at least 1")
    if data.size == 0:
        raise DataError(f"loading the data {data.ref!r}", received="no samples at all", todo="give data with samples")
    if data.size is not None and data.size < batch_size:
        raise DataError(
            f"drawing batches from {data.ref!r}",
            received=f"{data.size} samples, for batches of {batch_size}",
            todo=f"use a batch size of at most {data.size}",
        )
