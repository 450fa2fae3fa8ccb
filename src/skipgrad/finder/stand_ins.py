"""Stand-ins for the weights, buffers and arguments of a model while it is traced, and how they take their places."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from skipgrad.instrument.tensors import mapped

Make = Callable[[torch.Tensor], torch.Tensor]


def stand_ins(model: nn.Module, make: Make) -> dict[int, torch.Tensor]:
    """``id`` of each parameter and buffer, and of the tensors that are attributes of those → its stand-in.

    A tensor that is tied has one.
    """
    own = {id(t): t for box in boxes(model) for t in box.values() if t is not None}
    made = {key: _stand_in(t, make) for key, t in own.items()}
    for tensor in own.values():
        _carry_over(tensor, made, make)
    return made


def boxes(model: nn.Module) -> Iterator[dict[str, torch.Tensor | None]]:
    """The dictionaries in which the modules of a model keep their parameters and buffers."""
    for module in model.modules():
        yield module._parameters  # type: ignore[misc]
        yield module._buffers


@contextlib.contextmanager
def in_place_of_weights(model: nn.Module, made: dict[int, torch.Tensor]) -> Iterator[None]:
    """Inside the block, the modules of a model hold stand-ins.

    They are put straight into the modules' own dictionaries: by name, as ``torch.func.functional_call`` does it, a
    list that is called ``parameters`` would be taken for the method.
    """
    kept = [(box, dict(box)) for box in boxes(model)]
    try:
        for box, before in kept:
            box.update({name: made[id(t)] for name, t in before.items() if t is not None})
        yield
    finally:
        for box, before in kept:
            box.clear()
            box.update(before)


def in_place_of_arguments(args: Any, kwargs: Any, make: Make) -> tuple[Any, Any]:
    """The arguments with a stand-in for each tensor; a tensor that is given twice has the same stand-in twice."""
    made: dict[int, torch.Tensor] = {}

    def once(t: torch.Tensor) -> torch.Tensor:
        if id(t) not in made:
            new = make(t)
            if new.requires_grad and new.is_leaf:
                # No leaf, so that a forward may change it in place, as it may what another module has made.
                with torch.enable_grad(), torch.inference_mode(False):
                    new = new.clone()
            made[id(t)] = new
        return made[id(t)]

    return mapped(args, once), mapped(kwargs, once)


def copied(tensor: torch.Tensor) -> torch.Tensor:
    """A copy of an argument that asks for a gradient where the argument does."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _stand_in(tensor: torch.Tensor, make: Make) -> torch.Tensor:
    new = make(tensor.detach())
    kind = type(tensor)
    if not isinstance(tensor, nn.Parameter):
        return new.requires_grad_(tensor.requires_grad)
    if kind is not nn.Parameter and nn.Parameter in kind.__mro__ and type(new) is torch.Tensor:
        # A forward may ask whether its weight is an ``nn.Parameter``, or one of a kind of its own.
        with contextlib.suppress(TypeError, RuntimeError):
            return torch.Tensor._make_subclass(kind, new, tensor.requires_grad)
    return nn.Parameter(new, tensor.requires_grad)


def _carry_over(tensor: torch.Tensor, made: dict[int, torch.Tensor], make: Make) -> None:
    """Gives a stand-in what somebody has put on the tensor: a gain, a counter, the scale of a quantized weight."""
    if type(tensor) is not torch.Tensor and nn.Parameter not in type(tensor).__mro__:
        return  # a fake one, or one that is made of others: its attributes are what it is
    for name, value in vars(tensor).items():
        if isinstance(value, torch.Tensor) and not is_traceable_wrapper_subclass(value):
            value = made[id(value)] if id(value) in made else made.setdefault(id(value), _stand_in(value, make))
        with contextlib.suppress(AttributeError):
            setattr(made[id(tensor)], name, value)
