"""How a call of a forward is known again: its address, and what it looked like when it was traced.

The finder's recorder, the ledger's mode and the probes' modes all meet the calls of a forward at the same level, that
of ``torch.overrides``, in the same order. What one of them plans by address another one meets at that address.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from torch import Tensor
from torch.overrides import TorchFunctionMode

from skipgrad.instrument.tensors import is_counted


class Address(NamedTuple):
    """Which call of a forward: by the function's name, and how many counted calls of that name came before.

    A count of its own for each name, and not one over all calls: ``torch.compile`` drops calls that do nothing, and
    a name's own count survives that.
    """

    name: str
    number: int


def function_name(function: Any) -> str:
    """The name a function's calls are counted under."""
    return getattr(function, "__name__", None) or str(function)


@dataclass(frozen=True, slots=True)
class Look:
    """What a call looked like in the trace, for a run to compare with.

    Attributes:
        before: how many calls of any of the route's names came before it, those left out that did nothing.
        turn: how many calls of the route came before it.
        given: how many tensors it was given.
        ranks: tensor argument → number of its dimensions.
    """

    before: int = 0
    turn: int = 0
    given: int = 0
    ranks: Mapping[int, int] = field(default_factory=dict)

    def fits(self, given: list[Tensor], places: Collection[int]) -> bool:
        """Whether a call with these tensors can be the traced one; ranks are compared at the places named."""
        return len(given) == self.given and all(given[pos].dim() == self.ranks[pos] for pos in places)


@dataclass(frozen=True, slots=True)
class Route:
    """The calls of a forward that somebody has plans for; made by `skipgrad.finder.route_of`.

    Attributes:
        expected: function name → how many calls of it the trace has.
        looks: what each of the calls looked like.
    """

    expected: Mapping[str, int] = field(default_factory=dict)
    looks: Mapping[Address, Look] = field(default_factory=dict)

    def kept(self, counts: Mapping[str, int]) -> bool:
        """Whether a forward that made so many calls made the trace's."""
        return all(counts.get(name, 0) == many for name, many in self.expected.items())

    def differing(self, counts: Mapping[str, int]) -> list[str]:
        """The functions that were called more or less often than in the trace, in words."""
        return [
            f"{name} {counts.get(name, 0)}× (traced {many}×)"
            for name, many in self.expected.items()
            if counts.get(name, 0) != many
        ]


class EnteredOnce(TorchFunctionMode):
    """A mode that a model which calls itself may enter again: each call is met once all the same."""

    def __init__(self) -> None:
        super().__init__()
        self._entered = 0

    def __enter__(self) -> Self:
        self._entered += 1
        if self._entered == 1:
            super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._entered -= 1
        if self._entered == 0:
            super().__exit__(*exc)


class Follower(EnteredOnce):
    """Follows one eager forward along a route, and hands over the calls that there are plans for.

    Args:
        route: the calls.

    Attributes:
        broken: a call was met that is not the trace's; from there on calls are only made.
    """

    def __init__(self, route: Route) -> None:
        super().__init__()
        self.route = route
        self.broken = False
        self._counts: dict[str, int] = {}
        self._turn = 0

    def kept(self) -> bool:
        """Whether the forward's calls were those of the trace."""
        return not self.broken and self.route.kept(self._counts)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        if name not in self.route.expected or not is_counted(args, kwargs):
            return func(*args, **kwargs)
        address = Address(name, self._counts.get(name, 0))
        self._counts[name] = address.number + 1
        look = self.route.looks.get(address)
        if look is None or self.broken:
            return func(*args, **kwargs)
        # Turns, and not all calls: one that does nothing (a cast to the same type) is made in the run and no trace's node.
        if look.turn != self._turn:
            self.broken = True
            return func(*args, **kwargs)
        self._turn += 1
        return self.meet(address, look, func, args, kwargs)

    @abstractmethod
    def meet(self, address: Address, look: Look, func: Any, args: Any, kwargs: Any) -> Any:
        """Makes a call of the route, in a way of one's own; sets `broken` when it cannot be the traced one."""
