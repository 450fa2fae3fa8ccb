"""How data are fitted to a model, one file a kind of data."""

from __future__ import annotations

from typing import Any

from skipgrad.core import DataError
from skipgrad.models.data import resolve_data
from skipgrad.models.fitting.denoising import fit_denoising
from skipgrad.models.fitting.detection import fit_detection
from skipgrad.models.fitting.images import check_batch, fit_images
from skipgrad.models.fitting.own import fit_own
from skipgrad.models.fitting.text import fit_text
from skipgrad.models.resolve import resolve_model
from skipgrad.models.workload import Workload


def fit(model_ref: str, model_args: dict[str, Any] | None, data_ref: str, *, batch_size: int = 64) -> Workload:
    """Fits data to a model, and the model's head and input to the data.

    Arguments the user gave are never changed; what was done is said in ``Workload.fit``.

    Args:
        model_ref: see :func:`skipgrad.models.resolve_model`.
        model_args: arguments of the model's constructor.
        data_ref: see :func:`skipgrad.models.resolve_data`.
        batch_size: samples a step.

    Raises:
        UnknownName, BadInput, MissingExtra: a reference that does not resolve.
        DataError: data that cannot be loaded or do not fit.
        ModelError: the model cannot be built, or its forward raises on the fitted data.
    """
    source = resolve_model(model_ref, model_args)
    data = resolve_data(data_ref)
    check_batch(batch_size, data)
    if data.levels and "level" in source.keywords:
        return fit_denoising(source, data, batch_size)
    if source.untrainable and data.task != "custom":
        raise DataError(
            f"fitting the data {data_ref!r} to the model {model_ref!r}",
            received=source.untrainable,
            todo="use `skipgrad find` for this model, or give your own data",
        )
    if "detection" in (data.task, source.kind) and data.task != "custom":
        return fit_detection(source, data, batch_size)
    if data.task == "language model":
        return fit_text(source, data, batch_size)
    if data.task == "custom":
        return fit_own(source, data, batch_size)
    return fit_images(source, data, batch_size)


__all__ = ["fit"]
