"""What was derived of each call of a forward, so that a forward that makes the same calls is not derived anew.

A training runs one forward over and over. What a call means (its op, its class, which weights reach it) follows from
the function, its plain arguments, which values it takes, which of them it changed and the shapes of what it returned.
Where all of these are as they were in the forward before, its nodes are those of that forward. The first call that
differs is derived like any other, and nothing that came before it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]
from torch._C._autograd import _get_sequence_nr as _sequence_number
from torch._guards import CompileContext

from skipgrad.finder.calls import version_of
from skipgrad.finder.recorder import Met
from skipgrad.finder.rules import Rules
from skipgrad.finder.trace import Node
from skipgrad.instrument.calls import Address, function_name, meant
from skipgrad.instrument.tensors import tensors_in
from skipgrad.ledger.edges import target_of
from skipgrad.ledger.places import Places
from skipgrad.ledger.tape import Tape, kind_of, square_of

# Arguments of these types are compared; a call with one of another type is derived each time.
_PLAIN = frozenset([
    int, float, bool, str, type(None), type(Ellipsis),
    torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout,
])  # fmt: skip

_BUILT_IN = (type(torch.add), type(torch.Tensor.add))


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
    """

    events: list[Event]
    nodes: list[Node]
    key: Any


class MemoTape(Tape):
    """Records a forward on real tensors, with a memo of one like it.

    Of calls inside an autograd function or a reentrant checkpoint, and with rules of the user's, more than the call
    itself tells what they mean. They are derived each time; a tape with such rules is no `MemoTape`.

    A measured step makes each of these calls, so what a repeated one goes through is written to be short.

    Attributes:
        memo: of an earlier forward; None when there is none, or when this one has left it.
        events: what a memo of this forward is made of.
    """

    def __init__(self, places: Places, rules: Rules, rerun: Callable[..., Any], memo: Memo | None) -> None:
        super().__init__(places, rules, rerun=rerun)
        self.memo = memo
        self.events: list[Event] = []
        self._agreed = 0  # so many nodes are those of the memo
        self._counted = 0  # so many events have their uses in `_uses`
        self._start = 0  # nodes before the call that is recorded
        self._held: tuple[int, ...] | None = None
        self._call: Address | None = None
        self._unknown = 0

    @property
    def repeated(self) -> bool:
        """Whether the whole forward was that of the memo."""
        memo = self.memo
        if memo is None or len(self.events) != len(memo.events) or len(self.trace.nodes) != len(memo.nodes):
            return False
        return self._agrees()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        event = self._next(func)
        if event is None:
            return super().__torch_function__(func, types, args, kwargs)
        kwargs = kwargs or {}
        given: list[Tensor] = []
        if not self._safely(self._foreseen, event, args, kwargs, given):
            return super().__torch_function__(func, types, args, kwargs)
        versions = None if event.plain else [version_of(t) for t in given]
        self._inside += 1
        try:
            out = func(*args, **kwargs) if event.plain else meant(func)(*args, **kwargs)
        finally:
            self._inside -= 1
        if not self._safely(self._foretold, event, given, versions, out) and not self.failed:
            raw = function_name(func)
            self._start, self._unknown = event.start, self.trace.unknown.total()
            self._used, self._squared = list(event.uses), list(event.squares)
            self._held = self._call = None
            self._count_uses()
            for at in self._used:
                self._uses[at] = self._uses.get(at, 0) + 1
            if versions is None:
                versions = [version_of(t) - (k in event.changed) for k, t in enumerate(given)]
            self._safely(self._made, Met(func, raw, event.op, args, kwargs, given, versions, None), out)
        return out

    # -- a call of the memo ------------------------------------------------------------------------
    def _next(self, func: Any) -> Event | None:
        """The event that a call may be, by its function and place; None where it has to be derived."""
        memo = self.memo
        if memo is None or self.failed or self._silent or self._inside:
            return None
        nodes, at = self.trace.nodes, len(self.events)
        if self._agreed != len(nodes) and not self._agrees():
            self.memo = None
            return None
        event = memo.events[at] if at < len(memo.events) else None
        if (
            event is None
            or event.func is not func
            or event.pattern is None
            or event.start != len(nodes)
            or event.module != self._stack.path[-1]
            or self._applied is not None
            or self._checkpoint is not None
            or _functorch.peek_interpreter_stack() is not None
            or CompileContext.current_compile_id() is not None
        ):
            return None
        return event

    def _foreseen(self, event: Event, args: Any, kwargs: Any, given: list[Tensor]) -> bool:
        """Whether it is the call of the event; takes down what has to be known before it is made."""
        address = event.address
        if address is not None and self.trace.calls[address.name] != address.number:
            return False
        if not _fits(event.pattern, args, given) or bool(kwargs) != (event.named is not None):
            return False
        if kwargs and (tuple(kwargs) != event.names or not _fits(event.named, kwargs.values(), given)):
            return False
        known, held = self._values.known, event.held
        for pos, at in enumerate(held):
            tensor = given[pos]
            if known(tensor, at):
                continue
            if self._values.get(tensor) is not None or self._places.name_of(tensor) != event.leaves.get(pos):
                return False
        if event.many:
            for pos in event.leaves:
                self._values[given[pos]] = held[pos]
            self.trace.nodes.extend(event.nodes[: event.many])
            self._agreed = len(self.trace.nodes)
        targets: list[Any] = [None] * len(given)
        for pos in event.traced:
            targets[pos] = target_of(given[pos])
        self._targets, self._before = tuple(targets), _sequence_number()
        for pos in event.squares:
            self.squares[held[pos]] = square_of(given[pos])
        return True

    def _foretold(self, event: Event, given: list[Tensor], versions: list[int] | None, out: Any) -> bool:
        """Takes what the memo has of a call, if the call did the same."""
        if event.single != isinstance(out, Tensor) or event.same != _same(out, given):
            return False
        if versions is not None and _changed(given, versions) != event.changed:
            return False
        for k in event.changed:
            if self._values.base_of(given[k]) is not None:
                return False
        outs = (out,) if event.single else tuple(tensors_in(out))
        if len(outs) != len(event.outs) or (not event.single and any(t is g for t in outs for g in given)):
            return False
        for t, (_, shape, dtype) in zip(outs, event.outs, strict=True):
            if t.shape != shape or t.dtype is not dtype:
                return False
        trace = self.trace
        trace.nodes.extend(event.nodes[event.many :])
        self._agreed = len(trace.nodes)
        for t, (at, _, _) in zip(outs, event.outs, strict=True):
            self._values[t] = at
            if event.base >= 0:
                self._values.viewed(t, given[event.base])
        address = event.address
        if address is not None:
            trace.calls[address.name] = address.number + 1
            self._keep(address, out)
        if event.unknown is not None:
            trace.unknown[event.unknown] += 1
        self.events.append(event)
        return True

    def _agrees(self) -> bool:
        """Whether the nodes that were derived since the last call that was foreseen are those of the memo."""
        assert self.memo is not None
        nodes, first = self.trace.nodes, self._agreed
        self._agreed = len(nodes)
        theirs = self.memo.nodes[first : len(nodes)]
        return [kind_of(n) for n in nodes[first:]] == [kind_of(n) for n in theirs]

    def _count_uses(self) -> None:
        """Brings `_uses` up to date: it is asked when a call is derived."""
        for event in self.events[self._counted :]:
            for at in event.uses:
                self._uses[at] = self._uses.get(at, 0) + 1
        self._counted = len(self.events)

    # -- a call that was derived -------------------------------------------------------------------
    def _look(self, given: list[Tensor], op: str) -> None:
        self._count_uses()
        super()._look(given, op)

    def _meet(self, func: Any, raw: str, args: Any, kwargs: Any) -> Met:
        self._start, self._unknown = len(self.trace.nodes), self.trace.unknown.total()
        self._held = self._call = None
        return super()._meet(func, raw, args, kwargs)

    def _made(self, met: Met, out: Any) -> None:
        super()._made(met, out)
        self._remember(met, out)

    def _record(self, op: str, call: Address | None, given: list[Tensor], *rest: Any, **more: Any) -> None:
        self._held, self._call = tuple([self.node_of(t) for t in given]), call
        super()._record(op, call, given, *rest, **more)

    def _remember(self, met: Met, out: Any) -> None:
        """Makes the event of a call; without a pattern where more than its arguments tells what its nodes are."""
        nodes, start, given, held = self.trace.nodes, self._start, met.given, self._held
        made = nodes[start:]
        event = Event(met.func, met.op, None, self._stack.path[-1], start, tuple(made))
        self.events.append(event)
        self._counted = len(self.events)  # `_look` has counted what it uses
        single = isinstance(out, Tensor)
        outs = [out] if single else list(tensors_in(out))
        inside = self._applied is not None or self._checkpoint is not None
        if inside or met.raw == "__iter__" or _functorch.peek_interpreter_stack() is not None:
            return
        event.plain = type(met.func) in _BUILT_IN
        event.changed, event.single = _changed(given, met.versions), single
        if held is None:
            if not made and not self._used and not outs:  # ``x.size()``: it has no node and no address
                _compare(event, met)
            return
        leaf = ("param", "const")
        event.leaves = {
            k: self._places.name_of(t)
            for k, t in enumerate(given)
            if held[k] >= start and nodes[held[k]].op in leaf
        }  # fmt: skip
        event.many = len({held[k] for k in event.leaves})
        bound = [self._values.get(t) for t in outs]
        if (
            not all(event.leaves.values())
            or any((n.op in leaf) != (k < event.many) for k, n in enumerate(made))
            or any(n.role == "param" and n.op != "param" for n in made)  # where it lies is another place each time
            or any(n.op == "slice_scatter" and n.call is None for n in made)  # a change in place, through a view
            or (not single and any(t is g for t in outs for g in given))
            or any(at is None for at in bound)
        ):
            return
        event.held, event.address, event.same = held, self._call, _same(out, given)
        event.traced = tuple([k for k, at in enumerate(held) if nodes[at].role == "activation"])
        event.uses, event.squares = tuple(self._used), tuple(self._squared)
        event.outs = tuple([(at or 0, tuple(t.shape), t.dtype) for at, t in zip(bound, outs, strict=True)])
        if any(self._values.base_of(t) is not None for t in outs if not any(t is g for g in given)):
            event.base = 0
        if self.trace.unknown.total() > self._unknown:
            event.unknown = (met.op, event.module)
        _compare(event, met)


def _changed(given: list[Tensor], versions: list[int]) -> tuple[int, ...]:
    """The arguments that a call has changed in place."""
    return tuple([k for k, t in enumerate(given) if version_of(t) != versions[k]])


def _same(out: Any, given: list[Tensor]) -> int:
    """The argument that a call has returned; -1 where it has returned another tensor, or several."""
    if isinstance(out, Tensor):
        for k, t in enumerate(given):
            if t is out:
                return k
    return -1


def _compare(event: Event, met: Met) -> None:
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


def _fits(pattern: Any, values: Collection[Any], given: list[Tensor]) -> bool:
    """Whether arguments are those of a pattern; adds the tensors among them to `given`, in order."""
    if len(values) != len(pattern):
        return False
    for value, expected in zip(values, pattern, strict=True):
        if expected is Tensor:
            if not isinstance(value, Tensor):
                return False
            given.append(value)
        elif type(expected) is _Nested:
            if type(value) is not expected[0] or not _fits(expected[1], value, given):
                return False
        elif type(value) is not type(expected) or value != expected:
            return False
    return True
