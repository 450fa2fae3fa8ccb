"""``package.module:callable`` and ``file.py:callable``: the user's own models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from skipgrad.core import BadInput, ModelError
from skipgrad.models.importing import import_callable
from skipgrad.models.source import Inputs, ModelSource, ids, image, roles_of, signature_of


def resolve(ref: str, args: dict[str, Any], prefixes: tuple[str, ...]) -> ModelSource:
    """A model built by the user's own callable.

    Raises:
        UnknownName: no such file, module or callable.
        ModelError: importing raised.
    """
    call = import_callable(ref, "model", ModelError, prefixes)
    roles, defaults = roles_of(call)
    if "out_channels" in roles.values() and "channels" not in roles:
        del roles["classes"]  # a lone out_channels may be anything
    return ModelSource(
        ref=ref,
        args=args,
        construct=call,
        inputs=_inputs,
        modality="text" if "vocabulary" in roles else "unknown",
        roles=roles,
        defaults={role: value for role, value in defaults.items() if role in roles},
        signature=signature_of(call),
        user_args=frozenset(args),
        kind="own",
    )


def takes_ids(model: nn.Module) -> bool:
    """Whether the first module that has weights of its own is an embedding."""
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            return isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    return False


def _inputs(source: ModelSource, shape: tuple[int, ...] | None, device: str) -> Inputs:
    if shape is None:
        raise BadInput(
            f"making an example input for {source.ref!r}",
            received="a model of your own, whose input shape is not known",
            todo="give its shape, batch first: --input 1,3,224,224",
        )
    if len(shape) <= 2 and (source.modality == "text" or _builds_on_ids(source)):
        return (ids(shape, device, source.role("vocabulary") or 2),), {}
    return (image(shape, device),), {}


def _builds_on_ids(source: ModelSource) -> bool:
    with torch.device("meta"):
        return takes_ids(source.build())
