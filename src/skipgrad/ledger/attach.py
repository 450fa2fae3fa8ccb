"""Hooks on autograd's nodes: what a use of x sends back is read where it leaves the use.

The nodes of a call have edges to the tensors the call was given. The gradient sent along the edge to x is what this use
of x contributes to S or B. A hook reads it, and the one that arrives at the call's result, and changes neither. The
hooks go on after the forward, when it is known which calls matter, so that the forward runs on its own tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr as _sequence_number

from skipgrad.instrument.calls import Address
from skipgrad.ledger.arrivals import Arrivals
from skipgrad.ledger.edges import edges_to
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
    for name, sites in plan.sites.items():
        for number, site in sites.items():
            call = Address(name, number)
            made = tape.made.get(call)
            if made is not None and call not in tape.regions:
                _hook(site, made, arrivals)


def _hook(site: Site, made: Made, arrivals: Arrivals) -> None:
    edges: dict[Any, list[tuple[int, Wants, Joined]]] = {}  # node → its edges
    taken: dict[Any, Wants] = {}
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
        taken[key] = wants
        joined = Joined(arrivals, wants, len(found), target)
        for node, k in found:
            edges.setdefault(node, []).append((k, wants, joined))
    end, number = made.first
    at_end = site.wanted_of_result
    if at_end is not None and end is None:
        arrivals.without(at_end)
        at_end = None
    for node, uses in edges.items():
        here = at_end if node is end else None
        node.register_hook(_from_edges(arrivals, uses, number, here, _seen_before(node)))
    if at_end is not None and end is not None and end not in edges:
        end.register_prehook(_arriving(arrivals, at_end, number))


def _seen_before(node: Any) -> list[int]:
    """A cell with the number of autograd's next node when this one begins, in a backward that makes nodes itself."""
    cell = [0]

    def begins(_grads: Any) -> None:
        if torch.is_grad_enabled():
            cell[0] = _sequence_number()

    node.register_prehook(begins)
    return cell


def _arriving(arrivals: Arrivals, wants: Wants, number: int) -> Callable[[Any], None]:
    """A pre-hook for a node: takes in the gradient that arrives for the node's result `number`."""

    def arrived(grads: tuple[Tensor | None, ...]) -> None:
        grad = grads[number]
        if grad is not None:
            arrivals.take(((grad, wants),))

    return arrived


def _from_edges(
    arrivals: Arrivals,
    uses: list[tuple[int, Wants, Joined]],
    number: int,
    at_end: Wants | None,
    again: list[int],
) -> Callable[[Any, Any], None]:
    """A hook for a node: takes in what the node sends along the edges, and what arrives for its result `number`.

    One hook for both, so that `Arrivals.take` sees all of them at once and can tell that two are the same tensor.
    """

    def arrived(sent: tuple[Tensor | None, ...], came: tuple[Tensor | None, ...]) -> None:
        found: list[tuple[Tensor, Wants]] = []
        if at_end is not None and (grad := came[number]) is not None:
            found.append((grad, at_end))
        if torch.is_grad_enabled():
            for joined in {use[2] for use in uses}:
                _differentiable(sent, again[0], joined)
        for k, wants, joined in uses:
            grad = sent[k]
            if grad is None:
                continue
            if joined.single:
                found.append((grad, wants))
            else:
                joined.take(grad)
        if found:
            arrivals.take(found)

    return arrived


def _differentiable(sent: tuple[Tensor | None, ...], before: int, joined: Joined) -> None:
    """Follows a backward that can itself be differentiated.

    What the node has just computed may depend on x itself. When that is differentiated, gradients go straight to x from
    the nodes that the computation made; they belong to this use of x, too.
    """
    nodes = tuple(dict.fromkeys(g.grad_fn for g in sent if g is not None and g.grad_fn is not None))
    found = edges_to(nodes, before, joined.target)
    if found:
        joined.open()
    for node, k in found:

        def more(out: tuple[Tensor | None, ...], _came: Any, k: int = k) -> None:
            grad = out[k]
            if grad is not None:
                joined.take(grad)

        node.register_hook(more)
