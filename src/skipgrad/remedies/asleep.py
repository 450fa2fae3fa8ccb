"""Blocks that are left out for a while: y = x, and nothing of the block is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import RemedyRefused
from skipgrad.instrument.calls import followed
from skipgrad.instrument.faults import explained
from skipgrad.instrument.state import kept

_NEAR, _NEAR_HALF = 1e-4, 2e-2  # of x's norm, in float32 and in half precision
_AFTER_NORM = 0.5  # norms behind the add stay in the block: y is x with another norm's weights


class Gate:
    """Whether a block is left out. Copies of the block share it, so that a running mean of the weights wakes with it.

    Args:
        normed: a norm follows the block's add, so that with its branch at zero y is x only nearly.
    """

    def __init__(self, normed: bool = False) -> None:
        self.awake, self.seen, self.normed = False, False, normed

    def __deepcopy__(self, _memo: dict[int, Any]) -> Gate:
        return self


class _Asleep:
    """What a block's class has on top while it may be left out."""

    skipgrad_gate: Gate

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Forward: x, or what the block makes of it."""
        gate = self.skipgrad_gate
        if gate.awake:
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        if not gate.seen and not torch.compiler.is_compiling() and not followed():  # a look would break the graph
            self._look(x, args, kwargs)
            gate.seen = True
        return x

    def _look(self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Runs the block once, its branch at zero: it must return x."""
        block: Any = self
        with kept(block), torch.no_grad(), explained(block, "applying grow", (x, *args), kwargs):
            out = super().forward(x, *args, **kwargs)  # type: ignore[misc]
        what = type(self).__name__
        if not isinstance(out, torch.Tensor) or not isinstance(x, torch.Tensor) or out.shape != x.shape:
            raise _refused(f"a {what} that returns a {type(out).__name__} of another form than its input")
        half = torch.finfo(out.dtype).bits < 32 or torch.finfo(x.dtype).bits < 32
        bound = _AFTER_NORM if self.skipgrad_gate.normed else _NEAR_HALF if half else _NEAR
        x = x.detach()
        size, off = float(x.double().norm()), float((out.double() - x.double()).norm())
        if not off <= bound * size:
            raise _refused(f"a {what} that changes x by {off / (size or 1.0):.2g} with its branch at zero")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__ = copy.deepcopy(self.__dict__, memo)
        return new

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A pickle is of the block as it is without us: whoever loads it has all blocks awake."""
        state = {name: value for name, value in self.__dict__.items() if name != "skipgrad_gate"}
        return _made, (type(self).__mro__[2],), state


def _made(kind: type[nn.Module]) -> nn.Module:
    return kind.__new__(kind)


def _refused(received: str) -> RemedyRefused:
    return RemedyRefused("applying grow", received=received, todo="undo it: such a block cannot be left out")


def put_to_sleep(block: nn.Module, gate: Gate) -> None:
    """From now on the block is left out while its gate is not awake; names and state dict stay as they are.

    Raises:
        RemedyRefused: the block has a forward of its own (a patched object), or may be left out already.
    """
    kind = type(block)
    if "forward" in vars(block) or issubclass(kind, _Asleep):
        raise _refused(f"a {kind.__name__} whose forward was replaced already")
    block.__class__ = type(kind.__name__, (_Asleep, kind), {"__module__": kind.__module__})
    block.skipgrad_gate = gate  # type: ignore[assignment]


def left_out(model: nn.Module) -> list[str]:
    """The paths of the blocks that are left out now."""
    gates = ((name, getattr(module, "skipgrad_gate", None)) for name, module in model.named_modules())
    return [name for name, gate in gates if gate is not None and not gate.awake]


def leave_alone(block: nn.Module) -> None:
    """Takes `put_to_sleep` back; a class that something else put on top since (``fully_shard``) stays, awake."""
    above, own, kind = type(block).__mro__[:3]
    if own is _Asleep:
        assert issubclass(above, kind)
        block.__class__ = kind
        del block.skipgrad_gate
