"""Runs a model once, looks at chosen values in its forward, and leaves the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.finder import Found, route_of
from skipgrad.finder.trace import Node
from skipgrad.instrument.calls import Address, Follower, Look, Route
from skipgrad.instrument.patch import inside
from skipgrad.instrument.state import kept
from skipgrad.instrument.tensors import mapped, tensors_in

SEED = 0  # set before every forward, so that dropout and the like draw the same masks each time


@dataclass(frozen=True)
class Place:
    """Where a value can be seen: as tensor argument `pos` of a call, or as its result `result` when `pos` is -1."""

    call: Address
    pos: int = -1
    result: int = 0


@dataclass
class Places:
    """The values to look at, and the calls at which they can be seen.

    Attributes:
        sites: call → (index of a value, its place), for each value seen there.
        route: what those calls looked like in the trace.
        ranks: per value, its number of dimensions in the trace.
    """

    sites: dict[Address, list[tuple[int, Place]]] = field(default_factory=dict)
    route: Route = field(default_factory=Route)
    ranks: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, found: Found, wanted: list[tuple[Place, Node]]) -> Places:
        """The places of a trace, each with the node of its value."""
        places = cls(ranks=[len(node.shape) for _, node in wanted])
        for index, (place, _) in enumerate(wanted):
            places.sites.setdefault(place.call, []).append((index, place))
        places.route = route_of(found.trace, places.sites)
        return places


class _Glance(Follower):
    """Follows the calls the places name, and hands on the values met there."""

    def __init__(self, places: Places, take: Callable[[int, Tensor], None]) -> None:
        super().__init__(places.route)
        self.places, self.take = places, take

    def meet(self, address: Address, look: Look, func: Any, args: Any, kwargs: Any) -> Any:
        """Makes the call, and looks at what it is given and returns."""
        site = self.places.sites[address]
        with torch._C.DisableTorchFunction():
            self._look(site, (args, kwargs), results=False)
        out = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            # ``x[...] = y`` returns nothing; its result is the changed x.
            self._look(site, args[0] if address.name == "__setitem__" else out, results=True)
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
    """Calls a model and hands on the values at the places; returns whether the calls made were those of the trace.

    Buffers, attributes, modes and random states are put back afterwards. The model is given copies of the inputs.

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
    with kept(model, training=training, seed=SEED), inside(model, mode), torch.set_grad_enabled(grad):
        model(*args, **kwargs)
    return mode.kept()
