"""What was derived of each call of a forward, so that a forward that makes the same calls is not derived anew.

A training runs one forward over and over. What a call means (its op, its class, which weights reach it) follows from
the function, its plain arguments, which values it takes, which of them it changed and the shapes of what it returned.
Where all of these are as they were in the forward before, its nodes are those of that forward. The first call that
differs is derived like any other, and nothing that came before it is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from skipgrad.finder.calls import version_of
from skipgrad.finder.recorder import Met
from skipgrad.finder.trace import Node
from skipgrad.instrument.calls import Address

# Arguments of these types are compared; a call with one of another type is derived each time.
_PLAIN = frozenset([
    int, float, bool, str, type(None), type(Ellipsis),
    torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout,
])  # fmt: skip


@dataclass(slots=True, eq=False)
class Event:
    """A call as it was recorded.

    Attributes:
        func: the function.
        op: what it computes.
        pattern: its arguments, with ``Tensor`` in the place of each tensor; None where they cannot be compared.
        named: the same of its keyword arguments, None where it has none.
        names: of those.
        plain: whether it is torch's own and not a function in Python, so that its arguments tell what it changes.
        module: in whose forward it was made.
        start: how many nodes there were before it.
        nodes: those it made.
        held: per tensor argument, the node whose value it holds.
        traced: the tensor arguments that descend from the model's inputs.
        leaves: the parameters and buffers among its arguments that were met for the first time: which argument → name.
        many: how many nodes they have, the first of `nodes`.
        changed: the tensor arguments that it changed in place.
        uses: the nodes whose values it was seen to use.
        squares: the tensor arguments whose mean square was taken.
        address: of the call; None where it has none.
        unknown: what the trace counts it as where the table of ops has no rule for it.
        outs: per tensor it returned, (node, shape, dtype).
        same: the tensor argument that it returned; -1 where it returned another tensor.
        single: whether it returned one tensor, and not several.
        base: the tensor argument of which its results are views; -1 where they are none.
    """

    func: Any
    op: str
    pattern: tuple[Any, ...] | None
    module: str
    start: int
    nodes: tuple[Node, ...]
    named: tuple[Any, ...] | None = None
    names: tuple[str, ...] = ()
    plain: bool = False
    held: tuple[int, ...] = ()
    traced: tuple[int, ...] = ()
    leaves: dict[int, str] = field(default_factory=dict)
    many: int = 0
    changed: tuple[int, ...] = ()
    uses: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()
    address: Address | None = None
    unknown: tuple[str, str] | None = None
    outs: tuple[tuple[int, tuple[int, ...], torch.dtype], ...] = ()
    same: int = -1
    single: bool = True
    base: int = -1


@dataclass(slots=True, eq=False)
class Memo:
    """A forward as it was recorded.

    Attributes:
        events: its calls, in order.
        nodes: of its trace.
        key: of its kind.
        needed: the nodes whose mean square is read.
        numbers: call → its event.
    """

    events: list[Event]
    nodes: list[Node]
    key: Any
    needed: frozenset[int] = frozenset()
    numbers: dict[Address, int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = {e.address: k for k, e in enumerate(self.events) if e.address is not None}


def changed(given: list[Tensor], versions: list[int]) -> tuple[int, ...]:
    """The arguments that a call has changed in place."""
    return tuple([k for k, t in enumerate(given) if version_of(t) != versions[k]])


def same(out: Any, given: list[Tensor]) -> int:
    """The argument that a call has returned; -1 where it has returned another tensor, or several."""
    if isinstance(out, Tensor):
        for k, t in enumerate(given):
            if t is out:
                return k
    return -1


def compare(event: Event, met: Met) -> None:
    """Gives an event what its call's arguments are compared with, where they can be compared."""
    named = _pattern(met.kwargs.values()) if met.kwargs else None
    if met.kwargs and named is None:
        return
    event.names, event.named = tuple(met.kwargs), named
    event.pattern = _pattern(met.args)


def _pattern(values: Iterable[Any]) -> tuple[Any, ...] | None:
    """The arguments of a call, with ``Tensor`` for each tensor; None where there are some that cannot be compared."""
    pattern: list[Any] = []
    for value in values:
        if isinstance(value, Tensor):
            pattern.append(Tensor)
        elif type(value) in _PLAIN or (
            type(value) is slice and all(type(end) in _PLAIN for end in (value.start, value.stop, value.step))
        ):
            pattern.append(value)
        elif isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            inner = _pattern(value)
            if inner is None:
                return None
            pattern.append(_Nested((type(value), inner)))
        else:
            return None
    return tuple(pattern)


class _Nested(tuple[Any, ...]):
    """The pattern of a list or a tuple among the arguments."""

    __slots__ = ()


def fits(pattern: Any, values: Collection[Any], given: list[Tensor]) -> bool:
    """Whether arguments are those of a pattern; adds the tensors among them to `given`, in order."""
    if len(values) != len(pattern):
        return False
    for value, expected in zip(values, pattern, strict=True):
        if expected is Tensor:
            if not isinstance(value, Tensor):
                return False
            given.append(value)
        elif type(expected) is _Nested:
            if type(value) is not expected[0] or not fits(expected[1], value, given):
                return False
        elif type(value) is not type(expected) or value != expected:
            return False
    return True
