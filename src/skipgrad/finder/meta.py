"""The results of some ops on meta tensors, made without calling the op.

On meta tensors torch runs the decompositions of these ops in Python, only to find that the result has the shape of the
argument: nine tenths of the time a ResNet takes. Where the op might raise, it is called, so that the user reads its
own message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]

_CELLS = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
_NAMES = {
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "dropout": ("input", "p", "training", "inplace"),
    "gelu": ("input",),
    "scaled_dot_product_attention": ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale"),
}


def without_arithmetic(raw: str, args: Any, kwargs: Any) -> Any:
    """What the function `raw` would return; None where the op has to be called to know.

    The result has the shape and dtype that the op would give it, and requires a gradient where the op's would.
    """
    if raw in _CELLS:
        return _recurrent(raw, args) if len(args) == 9 and not kwargs else None
    names = _NAMES.get(raw)
    if names is None or len(args) > len(names):
        return None
    call = {**dict(zip(names, args, strict=False)), **kwargs}
    x = call.get(names[0])
    if type(x) is not Tensor or not x.is_meta or not x.is_floating_point() or _functorch.maybe_get_level(x) >= 0:
        return None
    if not _CHECKS[raw](x, call):
        return None
    # These three keep the memory layout of their argument (channels-last, say). A later ``view`` works or fails by it.
    layout = torch.preserve_format if raw in ("batch_norm", "dropout", "gelu") else torch.contiguous_format
    learned = any(isinstance(t, Tensor) and t.requires_grad for t in call.values())
    if learned and not x.requires_grad and torch.is_grad_enabled():
        x = x.detach().requires_grad_()  # the result is an activation of autograd because a weight of the op is
    return x.clone(memory_format=layout)


def _recurrent(raw: str, args: Any) -> Any:
    """Output and last states of ``lstm(x, states, weights, biases, layers, dropout, training, both_ways, ‥)``."""
    x, states, bidirectional = args[0], args[1], args[7]
    first = states[0] if isinstance(states, tuple | list) and states else states
    if not isinstance(first, Tensor) or type(x) is not Tensor or x.dim() != 3 or x.shape[-1] == 0:
        return None  # packed sequences among others
    if not (x.is_meta and first.is_meta and first.dim() == 3 and bool(args[2]) and args[2][0].shape[-1] == x.shape[-1]):
        return None
    width = first.shape[-1] * (2 if bidirectional else 1)
    # Made from x by ops, so that the result requires a gradient where x does.
    out = x.narrow(-1, 0, 1).expand(*x.shape[:-1], width).clone()
    return (out, *(s.clone() for s in states)) if raw == "lstm" else (out, first.clone())


def _like(t: Any, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    return t is None or (isinstance(t, Tensor) and t.is_meta and t.shape == shape and t.dtype == dtype)


def _batch_norm(x: Tensor, call: dict[str, Any]) -> bool:
    if x.dim() < 2 or (call.get("training") and x.numel() <= x.shape[1]):
        return False  # one value a channel is an error in training
    if not call.get("training") and (call.get("running_mean") is None or call.get("running_var") is None):
        return False  # so is evaluation without statistics
    return all(_like(call.get(n), (x.shape[1],), x.dtype) for n in ("running_mean", "running_var", "weight", "bias"))


def _layer_norm(x: Tensor, call: dict[str, Any]) -> bool:
    shape = call.get("normalized_shape")
    if not isinstance(shape, list | tuple) or not shape or tuple(x.shape[-len(shape) :]) != tuple(shape):
        return False
    return all(_like(call.get(n), tuple(shape), x.dtype) for n in ("weight", "bias"))


def _group_norm(x: Tensor, call: dict[str, Any]) -> bool:
    groups = call.get("num_groups")
    if not isinstance(groups, int) or x.dim() < 2 or groups < 1 or x.shape[1] % groups or x.numel() <= x.shape[1]:
        return False
    return all(_like(call.get(n), (x.shape[1],), x.dtype) for n in ("weight", "bias"))


def _dropout(x: Tensor, call: dict[str, Any]) -> bool:
    p = call.get("p", 0.5)  # in evaluation, and for 0, the op returns what it was given, not something like it
    return isinstance(p, int | float) and 0 < p <= 1 and call.get("training", True) and not call.get("inplace")


def _gelu(x: Tensor, call: dict[str, Any]) -> bool:
    return call.get("approximate", "none") in ("none", "tanh") and "out" not in call


def _attention(q: Tensor, call: dict[str, Any]) -> bool:
    k, v, mask = call.get("key"), call.get("value"), call.get("attn_mask")
    if not (isinstance(k, Tensor) and isinstance(v, Tensor) and k.is_meta and v.is_meta):
        return False
    if q.dim() != 4 or k.shape != v.shape or (mask is not None and (call.get("is_causal") or not mask.is_meta)):
        return False
    if q.shape[:2] != k.shape[:2] or q.shape[-1] != k.shape[-1] or not q.dtype == k.dtype == v.dtype:
        return False
    scores = (*q.shape[:3], k.shape[2])
    if mask is None:
        return True
    fits = isinstance(mask, Tensor) and mask.dim() <= 4 and mask.dtype in (torch.bool, q.dtype)
    return fits and all(m in (1, s) for m, s in zip(reversed(mask.shape), reversed(scores), strict=False))


_CHECKS: dict[str, Callable[[Tensor, dict[str, Any]], bool]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "dropout": _dropout,
    "gelu": _gelu,
    "scaled_dot_product_attention": _attention,
}
