"""The tensor that matters in whatever a model returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from skipgrad.core import ModelError

_KEYS = ("logits", "out", "sample", "prediction_logits", "last_hidden_state")


def main_output(output: Any) -> Tensor:
    """The logits, or what stands for them, in a model's output.

    A tensor is returned as it is; of a mapping (transformers' ModelOutput, torchvision's ``{"out": …}``) or a
    named tuple (Inception's with side heads) the entry called logits, out or sample, else the first tensor; of a
    list or tuple the first tensor, except that a list of tensors of one shape – RAFT's flows, from rough to fine
    – gives its last.

    Raises:
        ModelError: there is no tensor in it.
    """
    found = _find(output)
    if found is None:
        raise ModelError(
            "looking for a tensor in the model's output",
            received=f"a {type(output).__name__}",
            todo="return a tensor, or a dict with the entry 'logits'",
        )
    return found


def _find(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        for key in _KEYS:
            if isinstance(output.get(key), Tensor):
                return output[key]
        return next((found for found in map(_find, output.values()) if found is not None), None)
    for key in _KEYS:
        if isinstance(getattr(output, key, None), Tensor):
            return getattr(output, key)
    if isinstance(output, list) and output and all(isinstance(t, Tensor) for t in output):
        return output[-1] if len({t.shape for t in output}) == 1 else output[0]
    if isinstance(output, (list, tuple)):
        return next((found for found in map(_find, output) if found is not None), None)
    return None
