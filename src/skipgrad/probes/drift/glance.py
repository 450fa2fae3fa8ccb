"""Runs a model once to look at values in its forward, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skipgrad.finder import Found
from skipgrad.finder.trace import Node
from skipgrad.instrument.patch import ForwardPatch
from skipgrad.instrument.state import eagerly, kept
from skipgrad.instrument.tensors import is_counted, mapped, tensors_in

SEED = 0  # of dropout and the like: the same masks at every look


@dataclass(frozen=True)
class Place:
    """Where a value is met: tensor argument `pos` of a call, or, when `pos` is -1, result `result` of it."""

    call: tuple[str, int]
    pos: int = -1
    result: int = 0


@dataclass
class Places:
    """The values to look at, and what tells whether a forward is the one they were planned on.

    Attributes:
        sites: function name → number of the call → (index of the value, where).
        before: (function name, number of the call) → calls of any of those names that came before it in the trace.
        expected: calls of each of those names in the trace.
        ranks: per value, its number of dimensions in the trace.
    """

    sites: dict[str, dict[int, list[tuple[int, Place]]]] = field(default_factory=dict)
    before: dict[tuple[str, int], int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    ranks: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, found: Found, wanted: list[tuple[Place, Node]]) -> Places:
        """The places of a trace, each with the node of its value."""
        places = cls(ranks=[len(node.shape) for _, node in wanted])
        for index, (place, _) in enumerate(wanted):
            name, number = place.call
            places.sites.setdefault(name, {}).setdefault(number, []).append((index, place))
        places.expected = {name: found.trace.calls[name] for name in places.sites}
        turn, last = 0, None
        for node in found.trace.nodes:
            if node.call is not None and node.call[0] in places.sites and node.call != last:
                places.before[node.call], turn, last = turn, turn + 1, node.call
        return places


class _Glance(TorchFunctionMode):
    """Counts the calls the places name, and hands on the values met there."""

    def __init__(self, places: Places, take: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self.places, self.take = places, take
        self.counts: dict[str, int] = {}
        self.broken = False
        self._turn = 0

    def kept(self) -> bool:
        """Whether the forward's calls were those of the trace."""
        return not self.broken and all(self.counts.get(n, 0) == k for n, k in self.places.expected.items())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        sites = self.places.sites.get(name)
        if sites is None or not is_counted(args, kwargs):
            return func(*args, **kwargs)
        number, turn = self.counts.get(name, 0), self._turn
        self.counts[name], self._turn = number + 1, turn + 1
        site = sites.get(number, [])
        if site and self.places.before.get((name, number)) != turn:
            self.broken = True
        with torch._C.DisableTorchFunction():
            self._look(site, (args, kwargs), results=False)
        out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            # ``x[...] = y`` returns nothing: what it makes is x.
            self._look(site, args[0] if name == "__setitem__" else out, results=True)
        return out

    def _look(self, site: list[tuple[int, Place]], value: Any, *, results: bool) -> None:
        mine = [(index, p.result if results else p.pos) for index, p in site if (p.pos < 0) == results]
        if self.broken or not mine:
            return
        tensors = list(tensors_in(value))
        for index, at in mine:
            if at >= len(tensors) or tensors[at].dim() != self.places.ranks[index]:
                self.broken = True
                return
            self.take(index, tensors[at].detach())


def glance(
    model: nn.Module,
    args: Any,
    kwargs: Any,
    places: Places,
    take: Callable[[int, Tensor], None],
    *,
    grad: bool,
    training: Mapping[str, bool],
) -> bool:
    """Calls a model and looks at the values at the places; whether its calls were those of the trace.

    Buffers, attributes, modes and random states are as before afterwards; inputs are copies.

    Args:
        model: a plain module.
        args: of its forward.
        kwargs: of its forward.
        places: where to look.
        take: gets the number of the place and the value, which the forward may change in place afterwards.
        grad: whether the forward runs with gradients on.
        training: mode of each of the modules, by path.
    """
    mode = _Glance(places, take)
    args, kwargs = mapped((args, kwargs), lambda t: t.detach().clone())
    with kept(model, training=training, seed=SEED), eagerly(), torch.set_grad_enabled(grad):
        original = model.forward
        while isinstance(original, ForwardPatch):
            original = original.original  # a watch around the model is not to count this forward

        def forward(*a: Any, **k: Any) -> Any:
            with mode:
                return original(*a, **k)

        model.__dict__["forward"] = forward
        model.__dict__.pop("_compiled_call_impl", None)
        model(*args, **kwargs)
    return mode.kept()
