"""Text fitted to a model, and a model to text: vocabulary and context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from skipgrad.core import DataError, ModelError
from skipgrad.models.data.source import DataSource
from skipgrad.models.fitting import losses
from skipgrad.models.fitting.probe import first_embedding, probe
from skipgrad.models.source import ModelSource
from skipgrad.models.workload import Batch, Workload


def fit_text(source: ModelSource, data: DataSource, batch_size: int) -> Workload:
    """The next token, learned by a model that reads ids.

    An encoder-decoder reads the first half of each window and continues with the second; any other model
    predicts at each position the token after it.

    Raises:
        DataError: the model takes images, or has too small a vocabulary.
        ModelError: its forward raises.
    """
    said = [data.about, *data.notes]
    doing = f"fitting the data {data.ref!r} to the model {source.ref!r}"
    if source.modality in ("image", "other"):
        raise DataError(
            doing,
            received=f"token ids, for a model that does not read text ({source.modality})",
            todo="use --data digits or shapes, or a language model",
        )
    source, vocabulary = _vocabulary(source, data, doing, said)
    source, context = _context(source, data.shape[0], doing, said)
    two = source.kind in ("encoder-decoder", "speech")
    half = context // 2
    if source.args.get("is_decoder") and "is_decoder" not in source.user_args:
        said.append("the model is built with is_decoder=True, so that no position sees the token it has to predict")
    said.append(
        f"the encoder reads {half} bytes and the decoder predicts each of the following {context - half}"
        if two
        else f"each of {context} positions predicts the byte after it"
    )

    def prepare(x: Tensor, y: Tensor) -> Batch:
        highest = int(max(x.max(), y.max()))
        if highest >= vocabulary:
            raise DataError(
                f"reading the data {data.ref!r}",
                received=f"the token id {highest}; ids go from 0 to {vocabulary - 1}",
                todo=f"build the model with a vocabulary of at least {highest + 1}",
            )
        x, y = x[:, :context], y[:, :context]
        if two:
            return Batch((), {"input_ids": x[:, :half], "decoder_input_ids": x[:, half:]}, y[:, half:], len(x))
        return Batch(*source.inputs_of("text", x), y, len(x))

    dummy = prepare(*[torch.zeros((batch_size, context), dtype=torch.long) for _ in range(2)])
    _check_output(source, data, dummy, doing)
    name = f"{source.ref} on {data.ref}"
    return Workload(name, "language model", tuple(said), source, data, batch_size, prepare, losses.language)


def _vocabulary(source: ModelSource, data: DataSource, doing: str, said: list[str]) -> tuple[ModelSource, int]:
    assert data.classes is not None
    name = source.free("vocabulary")
    if name is not None and source.defaults.get("vocabulary") != data.classes:
        said.append(f"the model is built with {name}={data.classes}, one for each value of a byte")
        more = source.for_vocabulary(source, data.classes) if source.for_vocabulary is not None else {}
        source = source.with_args(**{name: data.classes}, **more)
    vocabulary = source.role("vocabulary") or first_embedding(source)
    if isinstance(vocabulary, int) and vocabulary < data.classes:
        raise DataError(
            doing,
            where=f"{source.roles.get('vocabulary', 'its embedding')} = {vocabulary}",
            received=f"token ids up to {data.classes - 1}, beyond the model's vocabulary of {vocabulary}",
            todo=f"set it to {data.classes} or leave it out",
        )
    return source, vocabulary if isinstance(vocabulary, int) else data.classes


def _context(source: ModelSource, context: int, doing: str, said: list[str]) -> tuple[ModelSource, int]:
    name, limit = source.roles.get("context"), source.role("context")
    if name is None or not isinstance(limit, int) or limit >= context or limit < 1:
        return source, context
    if source.free("context"):
        said.append(f"the model is built with {name}={context}")
        return source.with_args(**{name: context}), context
    said.append(f"windows are cut to the {limit} tokens the model was given as {name}")
    return source, limit


def _check_output(source: ModelSource, data: DataSource, batch: Batch, doing: str) -> None:
    try:
        found = probe(source, batch.args, batch.kwargs, doing)
    except ModelError:
        few = Batch(_head(batch.args), _head(batch.kwargs), None, 2)
        found = probe(source, few.args, few.kwargs, doing, real=True)
        found = replace(found, shape=(batch.size, *found.shape[1:]))
    length = batch.target.shape[1]
    if len(found.shape) != 3 or found.shape[1] != length or found.shape[2] < (data.classes or 0):
        raise DataError(
            doing,
            where=source.ref,
            received=f"an output of shape {found.shape}; predicting the next of {data.classes} tokens "
            f"at {length} positions needs (N, {length}, ≥{data.classes})",
            todo="give a model with a language-model head",
        )


def _head(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _head(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return tuple(_head(entry) for entry in value)
    return value[:2]
