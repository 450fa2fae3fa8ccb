"""A nested state as named tensors and JSON, and back."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from skipgrad.core.errors import OutputError

# How what JSON lacks is written: an object with one of these keys alone.
_TENSOR, _TUPLE, _PAIRS, _FLOAT = "$tensor", "$tuple", "$pairs", "$float"


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Plain JSON data, and the tensors it refers to by name.

    Raises:
        OutputError: something in it is neither a tensor nor plain data.
    """
    tensors: dict[str, Tensor] = {}
    return _pack(state, "", tensors), tensors


def unpack(plain: Any, tensors: dict[str, Tensor]) -> Any:
    """The state again. Raises KeyError when a tensor is missing."""
    if isinstance(plain, list):
        return [unpack(v, tensors) for v in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((key, value),) = plain.items()
        if key == _TENSOR:
            return tensors[value]
        if key == _TUPLE:
            return tuple(unpack(v, tensors) for v in value)
        if key == _PAIRS:
            return {unpack(k, tensors): unpack(v, tensors) for k, v in value}
        if key == _FLOAT:
            return float(value)
    return {key: unpack(value, tensors) for key, value in plain.items()}


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = path or "tensor"
        # A copy: tied weights share memory, which safetensors refuses, and views do not lie in one piece.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {_TENSOR: name}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, list):
        return [_pack(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {_TUPLE: [_pack(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {k: _pack(v, f"{path}/{k}", tensors) for k, v in value.items()}
        return {_PAIRS: [[_pack(k, path, tensors), _pack(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    raise OutputError(
        "saving a checkpoint",
        where=path.lstrip("/"),
        received=f"a {type(value).__name__}; a checkpoint holds tensors and plain data, and never a pickle",
        todo="return tensors, numbers, texts, lists and dicts from state_dict() and get_extra_state()",
    )
