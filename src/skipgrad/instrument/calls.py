"""How a call of a forward is recognized: by its address, and by what it looked like when it was traced.

The finder's recorder, the ledger's mode and the probes' modes all see the calls of a forward at the level of
``torch.overrides``, in the same order. So a call that has an address in the trace has the same address in a run.
"""

from __future__ import annotations

import inspect
import sys
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, NamedTuple, Self

from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, handle_torch_function
from torch.utils._device import DeviceContext

from skipgrad.instrument.tensors import is_counted


class Address(NamedTuple):
    """A call of a forward: the function's name, and how many counted calls of that name came before it.

    Each name is counted separately, because ``torch.compile`` drops calls that do nothing, and a name's own count
    survives that where a count over all calls would not.
    """

    name: str
    number: int


def followed() -> bool:
    """Whether somebody follows the calls of this forward, as `find` and `watch` do; a default device does not."""
    return any(not isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())


def function_name(function: Any) -> str:
    """The name a function's calls are counted under."""
    return getattr(function, "__name__", None) or str(function)


_HANDED_ON = handle_torch_function.__code__
_DEEP = 12  # frames from a mode's handler up to the function that handed its call on
_OPEN = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE


def meant(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a call that a mode was handed computes without any mode: almost always the function itself.

    Code that was copied out of torch may begin as the original does, ``if has_torch_function(…): return
    handle_torch_function(original, …)``, and go on differently. Under a mode it would compute what the original does.
    Then the copy is what is meant; made to run it, here, where the mode is not on, it goes on.
    """
    if type(function) is not FunctionType or str(function.__module__).partition(".")[0] != "torch":
        return function
    frame, deep = sys._getframe(1), 0
    while frame is not None and frame.f_code is not _HANDED_ON and deep < _DEEP:
        frame, deep = frame.f_back, deep + 1
    caller = frame.f_back if frame is not None and frame.f_code is _HANDED_ON else None
    if caller is None or str(caller.f_globals.get("__name__", "")).partition(".")[0] == "torch":
        return function
    code, values = caller.f_code, caller.f_locals
    if code.co_freevars or code.co_flags & _OPEN:
        return function
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if not values.keys() >= set(names):  # it has deleted one of its arguments
        return function
    first = [values[n] for n in names[: code.co_argcount]]
    named = {n: values[n] for n in names[code.co_argcount :]}
    copy = FunctionType(code, caller.f_globals)
    return lambda *_args, **_kwargs: copy(*first, **named)


@dataclass(frozen=True, slots=True)
class Look:
    """What a call looked like in the trace. A run compares its own call with that before it taps it.

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
        """Whether a call with these tensors can be the traced one; ranks are compared at the given places only."""
        return len(given) == self.given and all(given[pos].dim() == self.ranks[pos] for pos in places)


@dataclass(frozen=True, slots=True)
class Route:
    """The calls of a forward at which something is planned; made by `skipgrad.finder.route_of`.

    Attributes:
        expected: function name → how many calls of that function the trace has.
        looks: address of a planned call → what it looked like in the trace.
    """

    expected: Mapping[str, int] = field(default_factory=dict)
    looks: Mapping[Address, Look] = field(default_factory=dict)

    def kept(self, counts: Mapping[str, int]) -> bool:
        """Whether a forward with these counts made as many calls of every function as the trace has."""
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
        self._entered += 1  # entering twice would meet each call twice: only the outermost entry reaches torch
        if self._entered == 1:
            super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._entered -= 1
        if self._entered == 0:
            super().__exit__(*exc)


class Follower(EnteredOnce):
    """Follows one eager forward along a route, and hands the planned calls to `meet`.

    Args:
        route: the planned calls.

    Attributes:
        broken: whether the forward left the trace; from then on calls are made and nothing else is done.
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
        name, func = function_name(func), meant(func)
        if name not in self.route.expected or not is_counted(args, kwargs):
            return func(*args, **kwargs)
        address = Address(name, self._counts.get(name, 0))
        self._counts[name] = address.number + 1
        look = self.route.looks.get(address)
        if look is None or self.broken:
            return func(*args, **kwargs)
        # Turns, not all calls: one that does nothing (a cast to the same type) is in the run, and no node of the trace.
        if look.turn != self._turn:
            self.broken = True
            return func(*args, **kwargs)
        self._turn += 1
        return self.meet(address, look, func, args, kwargs)

    @abstractmethod
    def meet(self, address: Address, look: Look, func: Any, args: Any, kwargs: Any) -> Any:
        """Makes a planned call, and does around it what the subclass is for; sets `broken` when it is another call."""
