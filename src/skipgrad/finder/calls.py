"""Facts about one call and its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch._C import _functorch  # type: ignore[attr-defined]

from skipgrad.finder import ops
from skipgrad.instrument.tensors import tensors_in

_IN_PLACE = frozenset(f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "matmul", "pow", "and", "or"))


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors share their storage: one is a view of the other, or both are views of a third."""
    try:
        return a.untyped_storage()._cdata == b.untyped_storage()._cdata
    except (RuntimeError, NotImplementedError):  # no storage to ask
        return True


def dimension(args: Any, kwargs: Any, rank: int) -> int | None:
    """The dimension of a reduction or a stack, counted from the front; None for several dimensions, or all."""
    dim = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else 0 if "tensors" in kwargs else None))
    if dim is None and args and isinstance(args[0], list | tuple):
        dim = 0  # stack([…])
    if isinstance(dim, list | tuple) and len(dim) == 1:
        dim = dim[0]
    return dim % max(1, rank) if isinstance(dim, int) and not isinstance(dim, bool) else None


def second_of(op: str, args: Any, kwargs: Any, given: int) -> int:
    """Which of a call's tensors is multiplied by ``alpha`` or a minus; for a lerp, which is the weight.

    It has to be worked out because keywords may come in any order.
    """
    name, usual = ("weight", 2) if op == "lerp" else ("input" if op == "rsub" else "other", 0 if op == "rsub" else 1)
    if op == "lerp" and isinstance(kwargs.get("weight"), (int, float)):
        return given  # no tensor at all
    if name not in kwargs:
        others = [k for k, v in kwargs.items() if isinstance(v, torch.Tensor)]
        if others and len(others) < given and name != "weight" and "input" in others and op != "rsub":
            return 1 - others.index("input")
        return usual
    at = sum(1 for _ in tensors_in(args))
    for key, value in kwargs.items():
        if key == name:
            return at
        at += sum(1 for _ in tensors_in(value))
    return usual


def data_of(op: str, held: tuple[int, ...]) -> tuple[int, ...]:
    """The arguments whose values reach the result: of ``x.view_as(y)`` only x, as y gives no more than its shape."""
    if op in ops.SHAPED_LIKE:
        return held[:1]
    return held[1:] if op == "copy" and len(held) == 2 else held


def written_by(func: Any, args: Any) -> list[torch.Tensor]:
    """The tensors that an operator's schema says it writes to.

    Needed below autograd, where writes do not raise a tensor's version.
    """
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
    return {"shape": tuple(map(int, tensor.shape)), "floating": floating, "dtype": tensor.dtype}


def changed_by(raw: str, func: Any, args: Any, given: list[torch.Tensor], versions: list[int]) -> list[torch.Tensor]:
    """The arguments that a call has changed in place.

    A tensor's version tells. Tensors of inference mode have no version, so there the function's name tells (``add_``);
    and where autograd does not count versions, the operator's schema does.
    """
    changed = [t for t, v in zip(given, versions, strict=True) if version_of(t) != v]
    if changed:
        return changed
    if raw == "__setitem__":
        return [args[0]]
    plain = raw.split(".")[0]
    in_place = (plain.endswith("_") and not plain.endswith("__")) or plain in _IN_PLACE
    if in_place and given and given[0].is_inference():
        return given[:1]
    return written_by(func, args)


def version_of(tensor: torch.Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # inference tensors keep no version
        return 0
