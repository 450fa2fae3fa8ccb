"""The hooks that add a shortcut around a run of modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import ModelError

REGISTERED = "skipgrad_shortcuts"


class Shortcuts(nn.ModuleDict):
    """The learned shortcuts of a model.

    Its forward returns what it is given, because an `nn.Sequential` that owns it runs all its children.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Bridge:
    """Adds shortcut(x) to what module ``last`` returns, where x is what module ``first`` was called with.

    Its methods are the hooks and no closures are, so that a deep copy of the model gets a bridge (and a shortcut) of
    its own.

    Args:
        first: path of the module whose input is kept.
        last: path of the module whose output is added to.
        shortcut: None for the identity.
    """

    def __init__(self, first: str, last: str, shortcut: nn.Module | None) -> None:
        self.first, self.last, self.shortcut = first, last, shortcut
        # Undo sets it to False. Compiled code does not notice that hooks are gone, but it guards on this attribute.
        self.open = True
        self._x: torch.Tensor | None = None

    def keep(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of ``first``: keeps x."""
        if not self.open:
            return
        x = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(x, torch.Tensor):
            raise ModelError(
                "adding a skip",
                where=self.first,
                received=f"{type(x).__name__} as its input, not a tensor",
                todo="undo add-skips, or leave this place out",
            )
        # One slot and not a stack, so that what a forward that raised has left here is overwritten by the next one.
        self._x = x

    def add(self, _module: nn.Module, _args: Any, out: Any) -> Any:
        """Forward hook of ``last``: returns its output with shortcut(x) added."""
        if not self.open:
            return out
        x, self._x = self._x, None
        if x is None:
            raise ModelError(
                "adding a skip",
                where=self.last,
                received=f"a call without one of {self.first!r} before it",
                todo="undo add-skips before running parts of the model on their own",
            )
        if not isinstance(out, torch.Tensor):
            raise ModelError(
                "adding a skip", where=self.last, received=f"{type(out).__name__} as its output, not a tensor",
                todo="undo add-skips, or leave this place out",
            )  # fmt: skip
        side = x if self.shortcut is None else self.shortcut(x)
        if side.shape != out.shape:  # a sum would broadcast
            raise ModelError(
                "adding a skip",
                where=self.last,
                received=f"shortcut of shape {tuple(side.shape)} for an output of shape {tuple(out.shape)}",
                todo="find the skips again with inputs of this shape, and plan anew",
            )
        return out + side

    def clear(self, *_: Any) -> None:
        """Forward hook of the model, run after an exception too: lets go of x, so that no tensor outlives the call."""
        self._x = None


def projection(kind: str, fork: tuple[int, ...], merge: tuple[int, ...]) -> tuple[str, dict[str, Any]] | None:
    """Class name in `torch.nn` and arguments of a linear map from the fork's shape to the merge's.

    Args:
        kind: op of the layers bridged: ``"conv1d"``, ``"conv2d"``, ``"conv3d"`` (channels first) or another
            (features last).
        fork: shape of x.
        merge: shape of y.

    Returns:
        None when a 1×1 convolution with a stride, or a linear layer, does not lead from one to the other.
    """
    if len(fork) != len(merge) or fork[0] != merge[0]:
        return None
    if not kind.startswith("conv"):
        if fork[:-1] != merge[:-1]:
            return None
        return "Linear", {"in_features": fork[-1], "out_features": merge[-1], "bias": False}
    if len(fork) < 3 or len(fork) > 5:
        return None
    strides = []
    for size, wanted in zip(fork[2:], merge[2:], strict=True):
        # A 1×1 convolution with stride s leaves (size − 1)//s + 1 places.
        fits = [s for s in range(1, size + 1) if (size - 1) // s + 1 == wanted]
        if not fits:
            return None
        strides.append(fits[0])
    name = f"Conv{len(fork) - 2}d"
    return name, {
        "in_channels": fork[1], "out_channels": merge[1], "kernel_size": 1, "stride": tuple(strides), "bias": False,
    }  # fmt: skip


def build(name: str, arguments: dict[str, Any], like: torch.Tensor) -> nn.Module:
    """A projection that keeps the variance (weights from N(0, 1/fan-in)), drawn from torch's generator.

    Args:
        name: class in `torch.nn`.
        arguments: its arguments.
        like: a tensor whose device and dtype it gets.
    """
    layer: Any = getattr(nn, name)(**arguments, device=like.device, dtype=like.dtype)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return layer
