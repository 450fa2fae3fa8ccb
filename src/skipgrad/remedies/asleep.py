"""Blocks that are left out for a while: y = x, and nothing of the block is computed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.instrument.calls import followed
from skipgrad.instrument.faults import explained
from skipgrad.instrument.state import kept
from skipgrad.remedies.marks import OF, mark, unmark

_NEAR, _NEAR_HALF = 1e-4, 2e-2  # of x's norm, in float32 and in half precision
_AFTER_NORM = 0.5  # norms behind the add stay in the block: y is x with another norm's weights


class Gate:
    """Whether a block is left out, and what is done in place of its forward.

    Copies of the block share it, so that a running mean of the weights wakes with it. A pickle is of the block as it is
    without us: whoever loads it has all blocks awake.

    Args:
        normed: a norm follows the block's add, so that with its branch at zero y is x only nearly.
    """

    def __init__(self, normed: bool = False) -> None:
        self.awake, self.seen, self.normed = False, False, normed
        self._token: object | None = None

    def __call__(self, block: nn.Module, forward: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        """Gives x, or what the block makes of it."""
        if self.awake:
            return forward(x, *args, **kwargs)
        if not self.seen and not torch.compiler.is_compiling() and not followed():  # a look would break the graph
            self._look(block, forward, x, args, kwargs)
            self.seen = True
        return x

    def around(self) -> Callable[..., Any]:
        """What is done in place of the block's forward."""
        return self

    def close(self, block: nn.Module) -> None:
        """From now on the block is left out while the gate is not awake; names and state dict stay as they are."""
        more = {"skipgrad_gate": self, "__deepcopy__": _copied, "__reduce_ex__": _reduced}
        self._token = mark(block, self.around(), more)

    def remove(self, block: nn.Module) -> None:
        """Takes `close` back. Copies made meanwhile are whole from now on."""
        self.awake = True
        if self._token is not None:
            unmark(block, self._token)
            self._token = None

    def _look(
        self, block: nn.Module, forward: Callable[..., Any], x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Runs the block once, its branch at zero: it must return x."""
        with kept(block), torch.no_grad(), explained(block, "applying grow", (x, *args), kwargs):
            out = forward(x, *args, **kwargs)
        what = type(block).__name__
        if not isinstance(out, torch.Tensor) or not isinstance(x, torch.Tensor) or out.shape != x.shape:
            raise _refused(f"a {what} that returns a {type(out).__name__} of another form than its input")
        half = torch.finfo(out.dtype).bits < 32 or torch.finfo(x.dtype).bits < 32
        bound = _AFTER_NORM if self.normed else _NEAR_HALF if half else _NEAR
        x = x.detach()
        size, off = float(x.double().norm()), float((out.double() - x.double()).norm())
        if not off <= bound * size:
            raise _refused(f"a {what} that changes x by {off / (size or 1.0):.2g} with its branch at zero")


def refuse_waiting(model: nn.Module, remedy: str) -> None:
    """Refuses a model whose wrapper waits for the gradients of every weight, those of blocks left out, too."""
    if isinstance(model, nn.parallel.DistributedDataParallel) and not model.find_unused_parameters:
        raise RemedyRefused(
            f"applying {remedy}",
            received="a model in DistributedDataParallel, which waits for the gradients of every weight",
            todo=f"wrap it with find_unused_parameters=True, or apply {remedy} before it is wrapped so",
        )


def left_out(model: nn.Module) -> list[str]:
    """The paths of the blocks that are left out now."""
    gates = ((name, getattr(type(module), "skipgrad_gate", None)) for name, module in model.named_modules())
    return [name for name, gate in gates if gate is not None and not gate.awake]


def _copied(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    new = type(self).__new__(type(self))
    memo[id(self)] = new
    new.__dict__ = copy.deepcopy(self.__dict__, memo)
    return new


def _reduced(self: nn.Module, _protocol: Any) -> Any:
    kind = next(c for c in type(self).__mro__ if "skipgrad_gate" in c.__dict__).__dict__[OF]
    return _made, (kind,), dict(self.__dict__)


def _made(kind: type[nn.Module]) -> nn.Module:
    return kind.__new__(kind)


def _refused(received: str) -> RemedyRefused:
    return RemedyRefused("applying grow", received=received, todo="undo it: such a block cannot be left out")
