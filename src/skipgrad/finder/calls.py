"""Facts about one call and its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch._C import _functorch  # type: ignore[attr-defined]

from skipgrad.finder import ops as table
from skipgrad.finder.trace import tensors_in


def data_of(op: str, held: tuple[int, ...]) -> tuple[int, ...]:
    """The arguments whose values are in the result."""
    if op in table.SHAPED_LIKE:
        return held[:1]
    return held[1:] if op == "copy" and len(held) == 2 else held


def written_by(func: Any, args: Any) -> list[torch.Tensor]:
    """Arguments an operator of the library says it writes to: below autograd no version is counted."""
    schema = getattr(func, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    written = [a for a, s in zip(args, schema.arguments, strict=False) if s.alias_info and s.alias_info.is_write]
    return list(tensors_in(written))


def qualified_name(func: Any) -> str:
    schema = getattr(func, "_schema", None)
    return schema.name if schema is not None else getattr(func, "_qualified_op_name", "")


def place_of(tensor: torch.Tensor) -> Any:
    """Where a tensor's values lie: its storage, offset, shape and strides."""
    try:
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
        return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
    except (RuntimeError, NotImplementedError):  # sparse and other tensors without a storage
        return None


def facts(tensor: torch.Tensor) -> dict[str, Any]:
    floating = tensor.dtype.is_floating_point or tensor.dtype.is_complex
    return {"shape": tuple(int(s) for s in tensor.shape), "floating": floating, "dtype": tensor.dtype}


def version_of(tensor: torch.Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # inference tensors keep no version
        return 0
