"""Adds and concatenates two paths, and says which branch does not fit where their shapes do not."""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from skipgrad.core import BadInput


def added(form: nn.Module, x: Tensor, f: Tensor) -> Tensor:
    """``x + f``; f may be broadcast over x, x not over f.

    Raises:
        BadInput: shapes that do not add.
    """
    if x.shape != f.shape:
        check_sum(form, x, f)
    return x + f


def scaled(scale: Tensor, f: Tensor) -> Tensor:
    """``scale * f`` in f's type.

    A learned scalar has the shape (1,), as ``fully_shard`` takes no weights without a dimension; and such a one in
    float32 would make float32 of what autocast has made half as large.
    """
    return scale.to(f.dtype) * f


def through(shortcut: nn.Module | None, x: Tensor) -> Tensor:
    """x, or what the shortcut makes of it where there is one."""
    return x if shortcut is None else shortcut(x)


def check_sum(form: nn.Module, x: Tensor, f: Tensor) -> None:
    """Raises BadInput where f cannot be added to x without changing its shape."""
    if x.dim() == f.dim() and all(m in (1, n) for n, m in zip(x.shape, f.shape, strict=True)):
        return
    raise BadInput(
        "adding a branch to its shortcut",
        where=where(form, "branch"),
        received=f"the shortcut has shape {tuple(x.shape)}, the branch returned {tuple(f.shape)}",
        todo="let the branch keep the shape, or use the form 'projection': option='B' (weights) or 'A' (pad)",
    )


def concatenated(form: nn.Module, x: Tensor, f: Tensor, dim: int, name: str = "inner") -> Tensor:
    """``cat(x, f)`` along ``dim``.

    Raises:
        BadInput: shapes that differ in another dimension.
    """
    check_join(form, x, f, dim, name)
    return torch.cat([x, f], dim)


def check_join(form: nn.Module, x: Tensor, f: Tensor, dim: int, name: str) -> None:
    """Raises BadInput where f cannot be concatenated to x along ``dim``."""
    fits = x.dim() == f.dim() and -x.dim() <= dim < x.dim()
    if not fits or any(n != m for k, (n, m) in enumerate(zip(x.shape, f.shape, strict=True)) if k != dim % x.dim()):
        raise BadInput(
            f"concatenating two paths along dimension {dim}",
            where=where(form, name),
            received=f"the shortcut has shape {tuple(x.shape)}, the other path returned {tuple(f.shape)}",
            todo="let it come back to the sizes of its input (pad the input to a multiple of its stride), or crop",
        )


def where(form: nn.Module, name: str) -> str:
    """The path of a form's branch in the outermost model whose forward is running, and the class of both."""
    path = name
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            here = next((p for p, m in owner.named_modules() if m is form), None)
            if here:
                path = f"{here}.{name}"
        frame = frame.f_back  # type: ignore[assignment]
    branch = getattr(form, name, None)
    kind = f", a {type(branch).__name__}" if isinstance(branch, nn.Module) else ""
    return f"{path}{kind}, in a {type(form).__name__}"


def along(weight: Tensor, x: Tensor, dim: int) -> Tensor:
    """A vector of one number a channel, in the shape that multiplies x along its dimension ``dim``."""
    shape = [1] * x.dim()
    shape[dim] = -1
    return weight.view(shape)
