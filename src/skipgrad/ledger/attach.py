"""Hooks on autograd's nodes: what a use of x sends back is read where it leaves the use.

The nodes of a call have edges to the tensors the call was given. The gradient sent along the edge to x is what this use
of x contributes to S or B. A hook reads it, and the one that arrives at the call's result, and changes neither. The
hooks go on after the forward, when it is known which calls matter, so that the forward runs on its own tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr as _sequence_number

from skipgrad.instrument.calls import Address
from skipgrad.ledger.arrivals import Arrivals
from skipgrad.ledger.edges import Target, edges_to
from skipgrad.ledger.joined import Joined
from skipgrad.ledger.plan import Site, TapPlan, Wants
from skipgrad.ledger.tape import Made, Tape

_OFF = "one of its uses of x ran where autograd does not look (torch.func, or with gradients off)"


def sizes(plan: TapPlan, tape: Tape, arrivals: Arrivals) -> None:
    """Gives the arrivals the sizes of x and F that the tape took down."""
    for gather, fork in enumerate(plan.forks):
        total = sum(many for _, many in fork)
        known = [(tape.squares[i], many) for i, many in fork if i in tape.squares]
        if len(known) == len(fork) and total:
            arrivals.x_squares[gather] = sum(square * (many / total) for square, many in known)
    for row, ends in enumerate(plan.ends):
        known = [tape.squares[i] for i in ends if i in tape.squares]
        if len(known) == len(ends):
            arrivals.f_squares[row] = sum(known)


def attach(plan: TapPlan, tape: Tape, arrivals: Arrivals) -> None:
    """Puts the hooks on the calls of a tape that a plan names; those in a reentrant checkpoint get theirs later."""
    begun = _Begun()
    for name, sites in plan.sites.items():
        for number, site in sites.items():
            call = Address(name, number)
            made = tape.made(call)
            if made is not None and call not in tape.regions:
                _hook(site, made, arrivals, begun)


def _hook(site: Site, made: Made, arrivals: Arrivals, begun: _Begun) -> None:
    edges: dict[Any, list[_Use]] = {}  # node → the uses of x whose edges it has
    taken: set[Any] = set()
    for pos, wants in site.wanted.items():
        target = made.targets[pos] if pos < len(made.targets) else None
        if made.off or not made.targets:
            arrivals.refuse(wants, _OFF)
            continue
        # What a call is given twice is found twice: all that goes back to it is taken for the first of the two.
        key = None if target is None else (target.node, target.number, id(target.leaf))
        found = [] if target is None or key in taken else edges_to(made.nodes, made.before, target)
        if not found:
            arrivals.without(wants)
            continue
        assert target is not None
        taken.add(key)
        joined = None if len(found) == 1 else Joined(arrivals, wants, len(found))
        for node, k in found:
            edges.setdefault(node, []).append(_Use(k, wants, target, joined))
    end, number = made.first
    at_end = site.wanted_of_result
    if at_end is not None and end is None:
        arrivals.without(at_end)
        at_end = None
    for node, uses in edges.items():
        node.register_prehook(begun)
        node.register_hook(_FromEdges(arrivals, tuple(uses), number, at_end if node is end else None, begun))
    if at_end is not None and end is not None and end not in edges:
        end.register_prehook(_Arriving(arrivals, at_end, number))


# What a hook needs is kept in slots and not in a closure: each cell of one is an object for the garbage collector.


@dataclass(slots=True, eq=False)
class _Use:
    """An edge of a node that leads to x.

    Attributes:
        edge: its number.
        wants: what is wanted of what goes along it.
        target: where it leads.
        joined: adds up what one use of x sends along several edges; None while there is one.
    """

    edge: int
    wants: Wants
    target: Target
    joined: Joined | None


class _Begun:
    """A pre-hook for nodes: in a backward that makes nodes itself, takes down the number of the next as one begins.

    Attributes:
        numbers: number of a node → that of the next. A node itself would be kept for good by a hook of its own.
    """

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}

    def __call__(self, _grads: Any) -> None:
        if torch.is_grad_enabled():
            self.numbers[_running()] = _sequence_number()


def _running() -> int:
    """The number of the node that runs in this thread."""
    return int(torch._C._current_autograd_node()._sequence_nr())


@dataclass(slots=True, eq=False)
class _Arriving:
    """A pre-hook for a node: takes in the gradient that arrives for the node's result `number`."""

    arrivals: Arrivals
    wants: Wants
    number: int

    def __call__(self, grads: tuple[Tensor | None, ...]) -> None:
        grad = grads[self.number]
        if grad is not None:
            self.arrivals.take(((grad, self.wants),))


@dataclass(slots=True, eq=False)
class _FromEdges:
    """A hook for a node: takes in what the node sends along the edges, and what arrives for its result `number`.

    One hook for both, so that `Arrivals.take` sees all of them at once and can tell that two are the same tensor.
    """

    arrivals: Arrivals
    uses: tuple[_Use, ...]
    number: int
    at_end: Wants | None
    begun: _Begun

    def __call__(self, sent: tuple[Tensor | None, ...], came: tuple[Tensor | None, ...]) -> None:
        found: list[tuple[Tensor, Wants]] = []
        if self.at_end is not None and (grad := came[self.number]) is not None:
            found.append((grad, self.at_end))
        if torch.is_grad_enabled():
            self._differentiable(sent)
        for use in self.uses:
            grad = sent[use.edge]
            if grad is None:
                continue
            if use.joined is None:
                found.append((grad, use.wants))
            else:
                use.joined.take(grad)
        if found:
            self.arrivals.take(found)

    def _differentiable(self, sent: tuple[Tensor | None, ...]) -> None:
        """Follows a backward that can itself be differentiated.

        What the node has just computed may depend on x itself. When that is differentiated, gradients go straight to x
        from the nodes that the computation made; they belong to this use of x, too.
        """
        before = self.begun.numbers.pop(_running(), 0)
        nodes = tuple(dict.fromkeys(g.grad_fn for g in sent if g is not None and g.grad_fn is not None))
        looked: list[Joined] = []
        for use in self.uses:
            if use.joined in looked:
                continue
            found = edges_to(nodes, before, use.target)
            joined = use.joined
            if found:
                joined = use.joined = joined or Joined(self.arrivals, use.wants, 1)
                joined.open()
                for node, k in found:
                    node.register_hook(_Later(k, joined))
            if joined is not None:
                looked.append(joined)


@dataclass(slots=True, eq=False)
class _Later:
    """A hook for a node that a backward has made: what it sends along an edge to x."""

    edge: int
    joined: Joined

    def __call__(self, sent: tuple[Tensor | None, ...], _came: Any) -> None:
        grad = sent[self.edge]
        if grad is not None:
            self.joined.take(grad)
