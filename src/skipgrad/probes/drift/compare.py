"""Compares two tensors: their norms, the norm of their difference, and their inner product."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_BLOCK = 1 << 20  # values that are widened at a time


def compare(a: Tensor, b: Tensor) -> tuple[float, float, float, float]:
    """(‖a‖, ‖b‖, ‖a−b‖, ⟨a,b⟩), added up in float64."""
    wide = torch.float32 if a.device.type == "mps" else torch.float64  # MPS has no float64
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    total = torch.zeros(4, dtype=wide, device=a.device)
    for k in range(0, flat_a.numel(), _BLOCK):
        x, y = flat_a[k : k + _BLOCK].to(wide), flat_b[k : k + _BLOCK].to(wide)
        d = x - y
        total += torch.stack([x @ x, y @ y, d @ d, x @ y])
    xx, yy, dd, xy = total.tolist()
    return math.sqrt(xx), math.sqrt(yy), math.sqrt(dd), xy


def over(part: float, whole: float) -> float:
    """part / whole; NaN when the whole is zero."""
    return part / whole if whole else math.nan


def cosine(a: float, b: float, _: float, dot: float) -> float:
    """⟨a,b⟩ / (‖a‖·‖b‖) of what `compare` returns; NaN where one of them is zero."""
    return dot / (a * b) if a and b else math.nan
