"""Weights alone, for whoever uses the net: ``last.safetensors``, ``best.safetensors``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from skipgrad.train.saving.files import put, write_tensors


def save_weights(state: dict[str, Any], path: Path, header: dict[str, str] | None = None) -> None:
    """Writes a model's parameters and buffers under the names of its ``state_dict``.

    Raises:
        OutputError: the file cannot be written; what was there is as it was.
    """
    # A copy: tied weights share memory, which safetensors refuses, and views do not lie in one piece.
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items() if isinstance(v, Tensor)}
    put(write_tensors(path, tensors, {"format": "pt", **(header or {})}, doing="saving weights"), path)
