"""Noised images given to a diffusion net that takes their noise level as a time of its own."""

from __future__ import annotations

from torch import Tensor

from skipgrad.core import DataError
from skipgrad.models.data.source import DataSource
from skipgrad.models.fitting import losses
from skipgrad.models.fitting.probe import probe
from skipgrad.models.source import ModelSource
from skipgrad.models.workload import Batch, Workload


def fit_denoising(source: ModelSource, data: DataSource, batch_size: int) -> Workload:
    """The last channel, t / levels, becomes the net's time; the loss is the squared error of the noise.

    Args:
        source: a net whose forward has an argument for the level: ``keywords["level"]``.
        data: with `DataSource.levels`.
        batch_size: samples a step.

    Raises:
        DataError: channels the user set that are not those of the images.
        ModelError: the forward raises on the first batch.
    """
    doing = f"fitting the data {data.ref!r} to the model {source.ref!r}"
    levels, channels = data.levels, data.shape[0] - 1
    time = source.keywords["level"]
    said = [data.about, *data.notes, f"the level goes to the net as {time!r}, not as a channel"]
    for role in ("channels", "classes"):
        name = source.free(role)
        if name is not None and source.defaults.get(role) != channels:
            said.append(f"the model is built with {name}={channels}, the channels of the images")
            source = source.with_args(**{name: channels})
        elif name is None and source.role(role) not in (None, channels):
            raise DataError(
                doing,
                where=source.roles[role],
                received=f"{source.role(role)}, for images of {channels} channel{'s' * (channels > 1)}",
                todo=f"leave {source.roles[role]} out, or give {channels}",
            )

    def prepare(x: Tensor, y: Tensor) -> Batch:
        level = (x[:, -1].flatten(1)[:, 0] * levels).round().long()
        args, kwargs = source.inputs_of("image", x[:, :-1])
        return Batch(args, kwargs | {time: level}, y, len(x))

    name = f"{source.ref} on {data.ref}"
    work = Workload(name, "custom", tuple(said), source, data, batch_size, prepare, losses.custom)
    example = work.example
    probe(source, example.args, example.kwargs, doing, real=True)
    return work
