"""Records a forward with the memo of an earlier one: what it has in common with that one is not derived anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]
from torch._C._autograd import _get_sequence_nr as _sequence_number
from torch._guards import CompileContext

from skipgrad.finder.calls import version_of
from skipgrad.finder.recorder import ACCESSORS, Met
from skipgrad.finder.rules import Rules
from skipgrad.instrument.calls import Address, function_name, meant
from skipgrad.instrument.tensors import tensors_in
from skipgrad.ledger.edges import Target
from skipgrad.ledger.memo import Event, Memo, changed, compare, fits, same
from skipgrad.ledger.places import Places
from skipgrad.ledger.tape import Made, Tape, kind_of, square_of

_BUILT_IN = (type(torch.add), type(torch.Tensor.add))


class MemoTape(Tape):
    """Records a forward on real tensors, with a memo of one like it.

    Of calls inside an autograd function or a reentrant checkpoint, and with rules of the user's, more than the call
    itself tells what they mean. They are derived each time; a tape with such rules is no `MemoTape`.

    A measured step makes each of these calls, so what a repeated one goes through is written to be short, and makes
    few objects that Python's garbage collector counts: a full run of it takes a quarter of a second where much is
    loaded. What autograd says of such calls goes into one list.

    Attributes:
        memo: of an earlier forward; None when there is none, or when this one has left it.
        events: what a memo of this forward is made of.
    """

    def __init__(self, places: Places, rules: Rules, rerun: Callable[..., Any], memo: Memo | None) -> None:
        super().__init__(places, rules, rerun=rerun)
        self.memo = memo
        self.events: list[Event] = []
        self._followed = memo
        self._log: list[Any] = []  # what autograd says of the calls of the memo, one after the other
        self._logged: list[int] = []  # event → where in the log; -1 for a call that was derived
        self._mark = 0  # where in the log the call begins that is recorded
        self._needed = memo.needed if memo is not None else frozenset[int]()
        self._agreed = 0  # so many nodes are those of the memo
        self._counted = 0  # so many events are in `_uses` and `_by_edge`
        self._start = 0  # nodes before the call that is recorded
        self._held: tuple[int, ...] | None = None
        self._call: Address | None = None
        self._unknown = 0

    def repeated(self) -> Memo | None:
        """The memo, where the whole forward was that of it."""
        memo = self.memo
        if memo is None:
            return None
        if len(self.events) == len(memo.events) and len(self.trace.nodes) == len(memo.nodes) and self._agrees():
            return memo
        self._safely(self._leave)
        return None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        event = self._next(func)
        if event is None:
            return super().__torch_function__(func, types, args, kwargs)
        kwargs = kwargs or {}
        given: list[Tensor] = []
        if not self._safely(self._foreseen, event, args, kwargs, given):
            self._safely(self._size)
            return super().__torch_function__(func, types, args, kwargs)
        versions = None if event.plain else [version_of(t) for t in given]
        self._inside += 1
        try:
            out = func(*args, **kwargs) if event.plain else meant(func)(*args, **kwargs)
        finally:
            self._inside -= 1
        if not self._safely(self._foretold, event, given, versions, out) and not self.failed:
            if versions is None:
                versions = [version_of(t) - (k in event.changed) for k, t in enumerate(given)]
            met = Met(func, function_name(func), event.op, args, kwargs, given, versions, None)
            self._safely(self._not_foretold, event, met, out)
        return out

    # -- a call of the memo ------------------------------------------------------------------------
    def _next(self, func: Any) -> Event | None:
        """The event that a call may be, by its function and place; None where it has to be derived."""
        memo = self.memo
        if memo is None or self.failed or self._silent or self._inside:
            return None
        many, at = len(self.trace.nodes), len(self.events)
        if self._agreed != many and not self._agrees():
            self._safely(self._leave)
            return None
        event = memo.events[at] if at < len(memo.events) else None
        if event is None or event.func is not func:
            if function_name(func) not in ACCESSORS:
                self._safely(self._size)
            return None
        if (
            event.pattern is None
            or event.start != many
            or event.module != self._stack.path[-1]
            or self._applied is not None
            or self._checkpoint is not None
            or _functorch.peek_interpreter_stack() is not None
            # A compiler at work inside the forward has tensors of its own, which are not those of the memo.
            or (not event.held and CompileContext.current_compile_id() is not None)
        ):
            return None
        return event

    def _foreseen(self, event: Event, args: Any, kwargs: Any, given: list[Tensor]) -> bool:
        """Whether it is the call of the event; takes down what has to be known before it is made."""
        address = event.address
        if address is not None and self.trace.calls[address.name] != address.number:
            return False
        if not fits(event.pattern, args, given) or bool(kwargs) != (event.named is not None):
            return False
        if kwargs and (tuple(kwargs) != event.names or not fits(event.named, kwargs.values(), given)):
            return False
        values, held = self._values, event.held
        for pos, at in enumerate(held):
            if pos not in event.leaves and not values.known(given[pos], at):
                return False
        for pos, name in event.leaves.items():
            tensor = given[pos]
            if values.get(tensor) is not None or self._places.name_of(tensor) != name:
                return False
        if event.many:
            for pos in event.leaves:
                values[given[pos]] = held[pos]
            self.trace.nodes.extend(event.nodes[: event.many])
            self._agreed = len(self.trace.nodes)
        log = self._log
        self._mark = len(log)
        log.append(not torch.is_grad_enabled())
        log.append(_sequence_number())
        for pos in event.traced:
            tensor = given[pos]
            node = tensor.grad_fn
            log.append(node if node is not None else tensor if tensor.requires_grad else None)
            log.append(-1 if node is None else tensor.output_nr)
            at = held[pos]
            if at in self._needed and at not in self.squares:
                self.squares[at] = square_of(tensor)
        return True

    def _foretold(self, event: Event, given: list[Tensor], versions: list[int] | None, out: Any) -> bool:
        """Takes what the memo has of a call, if the call did the same."""
        if event.single != isinstance(out, Tensor) or event.same != same(out, given):
            return False
        if versions is not None and changed(given, versions) != event.changed:
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
        trace, values, log = self.trace, self._values, self._log
        trace.nodes.extend(event.nodes[event.many :])
        self._agreed = len(trace.nodes)
        for t, (at, _, _) in zip(outs, event.outs, strict=True):
            values[t] = at
            if event.base >= 0:
                values.viewed(t, given[event.base])
            log.append(t.grad_fn)
            log.append(t.output_nr)
            if at in self._needed and at not in self.squares:  # now, while it is in the processor's cache
                self.squares[at] = square_of(t)
        address = event.address
        if address is not None:
            trace.calls[address.name] = address.number + 1
        if event.unknown is not None:
            trace.unknown[event.unknown] += 1
        self.events.append(event)
        self._logged.append(self._mark)
        return True

    def _not_foretold(self, event: Event, met: Met, out: Any) -> None:
        """Derives a call that was taken for an event, and did something else."""
        self._start, self._unknown = event.start, self.trace.unknown.total()
        self._used, self._squared = list(event.uses), list(event.squares)
        self._held = self._call = None
        self._catch_up()
        for at in self._used:
            self._uses[at] = self._uses.get(at, 0) + 1
        self._targets, self._before, _, _ = self._taken_down(event, self._mark)
        self._made(met, out)

    def _agrees(self) -> bool:
        """Whether the nodes that were derived since the last call that was foreseen are those of the memo."""
        assert self.memo is not None
        nodes, first = self.trace.nodes, self._agreed
        self._agreed = len(nodes)
        theirs = self.memo.nodes[first : len(nodes)]
        return [kind_of(n) for n in nodes[first:]] == [kind_of(n) for n in theirs]

    def _leave(self) -> None:
        self.memo = None
        self._size()

    def _size(self) -> None:
        """Reads the sizes that nobody read in the memo's forward: in one that goes on differently they may be of x."""
        left = {e.held[pos] for e in self.events for pos in e.squares} - self.squares.keys()
        for tensor, at in self._values.alive() if left else ():
            if at in left:
                self.squares[at] = square_of(tensor)

    def _catch_up(self) -> None:
        """Brings `_uses` and `_by_edge` up to date: they are asked when a call is derived."""
        for k in range(self._counted, len(self.events)):
            event, at = self.events[k], self._logged[k]
            if at < 0:
                continue
            for node in event.uses:
                self._uses[node] = self._uses.get(node, 0) + 1
            for edge, (node, _, _) in zip(self._taken_down(event, at)[3], event.outs, strict=True):
                if edge[0] is not None:
                    self._by_edge[edge] = node
        self._counted = len(self.events)

    # -- what autograd says of it --------------------------------------------------------------------
    def made(self, call: Address) -> Made | None:
        """A call as autograd knows it; None when it was not made."""
        made = super().made(call)
        if made is None and self._followed is not None:
            k = self._followed.numbers.get(call, len(self.events))
            if k < len(self.events) and self.events[k] is self._followed.events[k]:
                targets, before, off, edges = self._taken_down(self.events[k], self._logged[k])
                nodes = tuple(dict.fromkeys(node for node, _ in edges if node is not None))
                made = Made(targets, before, nodes, edges[0] if edges else (None, 0), off)
        return made

    def _taken_down(self, event: Event, at: int) -> tuple[tuple[Target | None, ...], int, bool, list[tuple[Any, int]]]:
        """What the log has of a call: where edges to its arguments lead, the number of its first node, whether
        gradients were off, and where edges to its results lead."""
        log = self._log
        off, before, at = log[at], log[at + 1], at + 2
        targets: list[Target | None] = [None] * len(event.held)
        for pos in event.traced:
            node, number = log[at], log[at + 1]
            targets[pos] = None if node is None else Target(node, number) if number >= 0 else Target(None, 0, node)
            at += 2
        edges = [(log[k], log[k + 1]) for k in range(at, min(len(log), at + 2 * len(event.outs)), 2)]
        return tuple(targets), before, off, edges

    # -- a call that was derived -------------------------------------------------------------------
    def _look(self, given: list[Tensor], op: str) -> None:
        self._catch_up()
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
        self._logged.append(-1)
        self._counted = len(self.events)  # `_look` has counted what it uses
        single = isinstance(out, Tensor)
        outs = [out] if single else list(tensors_in(out))
        inside = self._applied is not None or self._checkpoint is not None
        if inside or met.raw == "__iter__" or _functorch.peek_interpreter_stack() is not None:
            return
        event.plain = type(met.func) in _BUILT_IN
        event.changed, event.single = changed(given, met.versions), single
        if held is None:
            if not made and not self._used and not outs:  # ``x.size()``: it has no node and no address
                compare(event, met)
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
        event.held, event.address, event.same = held, self._call, same(out, given)
        event.traced = tuple([k for k, at in enumerate(held) if nodes[at].role == "activation"])
        event.uses, event.squares = tuple(self._used), tuple(self._squared)
        event.outs = tuple([(at or 0, tuple(t.shape), t.dtype) for at, t in zip(bound, outs, strict=True)])
        if any(self._values.base_of(t) is not None for t in outs if not any(t is g for g in given)):
            event.base = 0
        if self.trace.unknown.total() > self._unknown:
            event.unknown = (met.op, event.module)
        compare(event, met)
