"""Which node of a trace a tensor holds the value of.

Tensors are known by object and held weakly: a recorder that kept them alive would raise the memory of the forward it
records. A tensor that is gone leaves its ``id`` to another, so that the reference is asked each time.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch._C import _functorch  # type: ignore[attr-defined]

from skipgrad.finder.calls import place_of


@dataclass(slots=True)
class _Value:
    """A tensor, the node whose value it holds now, and the tensor that it is a view of, if any."""

    ref: weakref.ref[torch.Tensor]
    node: int
    base: weakref.ref[torch.Tensor] | None = None


class Values:
    """The tensors met in a forward."""

    def __init__(self) -> None:
        self._by_id: dict[int, _Value] = {}
        self._unplaced: list[_Value] = []
        self._held: list[torch.Tensor] = []
        self._places: dict[Any, _Value] = {}  # where a tensor's values lie; brought up to date when it is needed

    def __setitem__(self, tensor: torch.Tensor, node: int) -> None:
        value = self._value(tensor)
        if value is None:
            value = self._by_id[id(tensor)] = _Value(weakref.ref(tensor), node)
            if _functorch.is_functorch_wrapped_tensor(tensor):
                self._held.append(tensor)  # `vmap` returns what is inside it, and lets go of it
        value.node = node
        self._unplaced.append(value)  # also an old one: of two tensors in one place, the one met last counts

    def get(self, tensor: torch.Tensor) -> int | None:
        """The node whose value a tensor holds; None for a tensor never met."""
        value = self._by_id.get(id(tensor))
        return value.node if value is not None and value.ref() is tensor else None

    def known(self, tensor: torch.Tensor, node: int) -> bool:
        """Whether a tensor holds the value of this node."""
        value = self._by_id.get(id(tensor))
        return value is not None and value.node == node and value.ref() is tensor

    def viewed(self, tensor: torch.Tensor, base: torch.Tensor) -> None:
        """Notes that a tensor is a view of another."""
        value = self._value(tensor)
        if value is not None:
            value.base = weakref.ref(base)

    def base_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The tensor that another is a view of; None when it is none, or when nobody has the base any more."""
        value = self._value(tensor)
        return None if value is None or value.base is None else value.base()

    def in_the_same_place(self, tensor: torch.Tensor) -> int | None:
        """The node of a tensor with the same values in the same memory; None when there is none.

        Autograd and ``vmap`` make new tensor objects for old values below the level of the recorder.
        """
        for value in self._unplaced:
            met = value.ref()
            place = None if met is None else place_of(met)
            if place is not None:
                self._places[place] = value
        self._unplaced.clear()
        place = place_of(tensor)
        value = None if place is None else self._places.get(place)
        return None if value is None or value.ref() is None else value.node

    def _value(self, tensor: torch.Tensor) -> _Value | None:
        value = self._by_id.get(id(tensor))
        return value if value is not None and value.ref() is tensor else None
