"""Does a model run on inputs of these shapes, and what does it return? Asked without memory where possible."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.core import ModelError
from skipgrad.instrument.faults import called
from skipgrad.instrument.tensors import mapped
from skipgrad.models.output import main_output
from skipgrad.models.source import ModelSource

_STRIDED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
)  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """What a model made of inputs.

    Attributes:
        shape: shape of its main output.
        starved: a layer with a stride was given maps of one pixel: the images are too small for this net.
    """

    shape: tuple[int, ...]
    starved: bool


def probe(
    source: ModelSource, args: tuple[Any, ...], kwargs: dict[str, Any], doing: str, *, real: bool = False
) -> Probe:
    """Builds the model, runs it once in training mode on inputs of these shapes and reports what came out.

    Args:
        source: the model.
        args: positional inputs.
        kwargs: keyword inputs.
        doing: for the message.
        real: with memory and numbers; otherwise on the meta device, which costs neither.

    Raises:
        ModelError: it could not be built, or its forward raised.
    """
    state = torch.random.get_rng_state()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if not real:
                with torch.device("meta"):
                    return _probe(source.build(), mapped(args, _to_meta), mapped(kwargs, _to_meta), doing)
            return _probe(source.build(), copy.deepcopy(args), copy.deepcopy(kwargs), doing)
    finally:
        torch.random.set_rng_state(state)


def _to_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _probe(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], doing: str) -> Probe:
    starved: list[str] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        stride = getattr(module, "stride", 1)
        strides = stride if isinstance(stride, tuple) else (stride,)
        if inputs and isinstance(inputs[0], Tensor):
            sizes = inputs[0].shape[-len(strides) :]
            if any(isinstance(s, int) and s > 1 and n == 1 for s, n in zip(strides, sizes, strict=False)):
                starved.append(type(module).__name__)

    for module in model.modules():
        if isinstance(module, _STRIDED):
            module.register_forward_pre_hook(look)
    output = called(model.train(), args, kwargs, doing)
    return Probe(tuple(main_output(output).shape), bool(starved))


def first_channels(source: ModelSource) -> int | None:
    """Input channels of the model's first two-dimensional convolution; None without one, or if it cannot be built."""
    return next((m.in_channels for m in _modules(source) if type(m) is nn.Conv2d), None)


def first_embedding(source: ModelSource) -> int | None:
    """Entries of the model's first embedding; None without one, or if it cannot be built."""
    return next((m.num_embeddings for m in _modules(source) if type(m) is nn.Embedding), None)


def _modules(source: ModelSource) -> list[nn.Module]:
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return list(source.build().modules())
    except ModelError:
        return []
