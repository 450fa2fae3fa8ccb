"""Weights alone, for whoever uses the net: ``last.safetensors``, ``best.safetensors``."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from skipgrad.instrument.wrappers import unwrap
from skipgrad.train.saving.files import put, write_tensors


def save_weights(model: nn.Module, path: Path, header: dict[str, str] | None = None) -> None:
    """Writes a model's parameters and buffers under the names of its ``state_dict``.

    Raises:
        OutputError: the file cannot be written; what was there is as it was.
    """
    put(write_tensors(path, weights(model), {"format": "pt", **(header or {})}, doing="saving weights"), path)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's ``state_dict``, each with memory of its own on the CPU."""
    state = unwrap(model).state_dict()
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items() if isinstance(v, torch.Tensor)}
