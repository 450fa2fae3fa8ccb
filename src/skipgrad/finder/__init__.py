"""Finds the skip connections of a model: trace (what it computes), match (which merges are skips), build (records).

`find` is the way in. Everything it needs to know about an op is in `ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from skipgrad.core import ModelError, SkipGraph
from skipgrad.finder.build import Found, build
from skipgrad.finder.run import is_tracing, require_module, signature, trace, unwrap
from skipgrad.finder.trace import describe

__all__ = ["Found", "find", "find_built", "find_in_call", "is_tracing", "signature", "unwrap"]


def find(model: Any, *args: Any, **kwargs: Any) -> SkipGraph:
    """Every skip connection of a model, without touching its weights.

    The model's forward is run once on tensors without memory (meta tensors; fake or real ones where the
    forward needs more), in the mode (training or evaluation) the model is in. Buffers, attributes and
    random state are as before afterwards.

    Args:
        model: a module; real, fake or on the meta device; compiled or not.
        *args: what its forward takes; real, fake or meta tensors of any batch size.
        **kwargs: the same, by name.

    Returns:
        The `SkipGraph`: ``skips`` in order of execution of the merges, ``others``, ``unknown``.

    Raises:
        BadInput: not a module.
        ModelError: the forward raised; the message is the model's own.

    Example:
        >>> import skipgrad as sg, torchvision, torch
        >>> len(sg.find(torchvision.models.resnet18(), torch.zeros(1, 3, 224, 224)))
        8
    """
    return find_in_call(model, args, kwargs)


def find_in_call(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, how: str = "") -> SkipGraph:
    """`find` for the arguments of a call, traced in a way of one's choice: ``how`` as in `run.trace`."""
    inner = require_module(model)
    recorded = trace(inner, args, kwargs, how=how)
    return build(recorded, model=type(inner).__name__, inputs=describe(args, kwargs))


def find_built(
    make: Callable[[], nn.Module], example: Callable[[str], tuple[tuple[Any, ...], dict[str, Any]]], label: str = ""
) -> SkipGraph:
    """`find` for a model that is still to be built: on the meta device, else for real.

    Args:
        make: builds a fresh model.
        example: device → (args, kwargs) for its forward.
        label: what the model is called.

    Raises:
        ModelError: it could be neither built nor run; the message of the last attempt.
    """
    notes: list[str] = []
    failure: Exception | None = None
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                model = make()
        except Exception as error:  # noqa: BLE001 - a constructor may raise anything; the last is raised again
            failure = error
            notes.append(f"could not be built on {device}: {type(error).__name__}: {str(error).splitlines()[:1]}")
            continue
        for training in (True, False):
            model.train(training)
            try:
                args, kwargs = example(device)
                graph = find(model, *args, **kwargs)
            except ModelError as error:
                if failure is None or device != "meta":
                    failure = error
                mode = "training" if training else "evaluation"
                notes.append(f"on {device} in {mode} mode: {(error.received or '').rpartition('it raised ')[2]}")
                continue
            fallen = tuple(f"tried first: {n}" for n in notes)
            return replace(graph, model=label or graph.model, notes=(*fallen, *graph.notes))
    assert failure is not None
    raise failure
