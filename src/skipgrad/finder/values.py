"""Which node of a trace a tensor holds the value of.

Tensors are known by object and held weakly: a recorder that kept them alive would raise the memory of the forward it
records. A tensor that is gone leaves its ``id`` to another, so that the reference is asked each time.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch._C import _functorch  # type: ignore[attr-defined]

from skipgrad.finder.calls import place_of

Ref = weakref.ref[torch.Tensor]


class Values:
    """The tensors met in a forward.

    A forward has hundreds of them, and each object that Python's garbage collector counts brings its next run nearer:
    a tensor has one here, a weak reference.
    """

    def __init__(self) -> None:
        self._refs: dict[int, Ref] = {}
        self._nodes: dict[int, int] = {}
        self._bases: dict[int, Ref] = {}  # of which tensor another is a view
        self._unplaced: list[Ref] = []
        self._held: list[torch.Tensor] = []
        self._places: dict[Any, Ref] = {}  # where a tensor's values lie; brought up to date when it is needed

    def __setitem__(self, tensor: torch.Tensor, node: int) -> None:
        key = id(tensor)
        ref = self._refs.get(key)
        if ref is None or ref() is not tensor:
            ref = self._refs[key] = weakref.ref(tensor)
            self._bases.pop(key, None)
            if _functorch.is_functorch_wrapped_tensor(tensor):
                self._held.append(tensor)  # `vmap` returns what is inside it, and lets go of it
        self._nodes[key] = node
        self._unplaced.append(ref)  # also an old one: of two tensors in one place, the one met last counts

    def get(self, tensor: torch.Tensor) -> int | None:
        """The node whose value a tensor holds; None for a tensor never met."""
        key = id(tensor)
        ref = self._refs.get(key)
        return self._nodes[key] if ref is not None and ref() is tensor else None

    def known(self, tensor: torch.Tensor, node: int) -> bool:
        """Whether a tensor holds the value of this node."""
        key = id(tensor)
        if self._nodes.get(key) != node:
            return False
        return self._refs[key]() is tensor

    def alive(self) -> Iterator[tuple[torch.Tensor, int]]:
        """The tensors that somebody still has, and their nodes."""
        for key, ref in list(self._refs.items()):
            tensor = ref()
            if tensor is not None:
                yield tensor, self._nodes[key]

    def viewed(self, tensor: torch.Tensor, base: torch.Tensor) -> None:
        """Notes that a tensor is a view of another."""
        if self.get(tensor) is not None:
            self._bases[id(tensor)] = weakref.ref(base)

    def base_of(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The tensor that another is a view of; None when it is none, or when nobody has the base any more."""
        base = self._bases.get(id(tensor))
        return None if base is None or self.get(tensor) is None else base()

    def in_the_same_place(self, tensor: torch.Tensor) -> int | None:
        """The node of a tensor with the same values in the same memory; None when there is none.

        Autograd and ``vmap`` make new tensor objects for old values below the level of the recorder.
        """
        for ref in self._unplaced:
            met = ref()
            place = None if met is None else place_of(met)
            if place is not None:
                self._places[place] = ref
        self._unplaced.clear()
        place = place_of(tensor)
        found = None if place is None else self._places.get(place)
        met = None if found is None else found()
        return None if met is None else self.get(met)
