"""Hooks on autograd's nodes, for eager forwards: what a use of x sends back is read where it leaves the use.

The node of a call has one edge to each tensor the call was given. The gradient that the node sends along the edge to x
is what this use of x contributes to S or B. A hook on the node reads that gradient, and the one that arrives at the
node, and changes neither; the forward runs on the very tensors it would run on without a watch.

Which edge leads to x has to be learned. In the first forward each use is given an alias of x (a `Tap`), and the edge to
the alias is looked for. Where a call takes x into several nodes there is no single edge: such a use is given an alias
in every forward, and the hook is on the alias's node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _get_sequence_nr as _sequence_number

from skipgrad.instrument.tensors import first_of
from skipgrad.ledger.arrivals import LEAF, Arrivals
from skipgrad.ledger.learned import Learned
from skipgrad.ledger.plan import Site, TapPlan, Wants
from skipgrad.ledger.statistics import mean_square
from skipgrad.ledger.taps import Tap

_UNKNOWN: tuple[int, ...] = ()  # no forward has looked for the way of this use yet; None: it has none


@dataclass(slots=True)
class _Use:
    """A use of a tensor by the call that is being made.

    `node` and `number` are where an edge to the tensor leads (None for a leaf), `way` is as in `Learned`.
    """

    pos: int
    wants: Wants
    node: Any
    number: int
    x: Tensor
    way: tuple[int, ...] | None


class NodeHooks:
    """Reads the uses of one forward.

    Args:
        plan: what to measure.
        arrivals: takes the gradients.
        learned: the ways that earlier forwards of this plan have found; new ones are added.

    Attributes:
        failed: whether a call's node was met that is built in another way than when the way to x was learned.
    """

    def __init__(self, plan: TapPlan, arrivals: Arrivals, learned: Learned) -> None:
        self.plan = plan
        self.arrivals = arrivals
        self.learned = learned
        self.failed = False
        self._direct = learned.allowed
        self._shapes: dict[int, torch.Size] = {}
        self._uses: list[_Use] = []  # of the call that is being made
        self._before = 0  # autograd numbers its nodes; the call's own have this number or a higher one

    def arguments(self, site: Site, given: list[Tensor]) -> list[Tensor] | None:
        """The tensors to call with; None when this cannot be the call the site was planned for."""
        arrivals = self.arrivals
        for row, pos in site.squares:
            arrivals.f_squares[row] = arrivals.f_squares.get(row, 0.0) + mean_square(given[pos], self.plan.dtype)
        new = given
        self._before = _sequence_number()
        for pos, wants in site.wanted.items():
            x = given[pos]
            if not x.requires_grad:
                continue
            if not self._begin(wants.taps, x):
                return None
            way = self.learned.ways.get((site.key, pos), _UNKNOWN) if self._direct else None
            if way:
                self._uses.append(_Use(pos, wants, x.grad_fn, x.output_nr, x, way))
                continue
            if new is given:
                new = list(given)
            tapped: Tensor = Tap.apply(x)  # type: ignore[assignment]
            assert tapped.grad_fn is not None
            tapped.grad_fn.register_prehook(self._relay(wants))
            site.put(new, pos, tapped, given)
            if way is _UNKNOWN:
                self._uses.append(_Use(pos, wants, tapped.grad_fn, 0, tapped, None))
        return new

    def result(self, site: Site, out: Any) -> Any:
        """What the call returned; None when this cannot be the call the site was planned for."""
        wants = site.wanted_of_result
        y: Any = first_of(out)
        node: Any = None if y is None else y.grad_fn
        if y is None or node is None:
            wants = None
        elif wants is not None and not self._begin(wants.taps, y):
            return None
        here: list[tuple[int, Wants]] = []
        uses, self._uses = self._uses, []
        for use in uses:
            if use.way is None:
                self.learned.ways[site.key, use.pos] = _way(out, node, use, self._before)
                continue
            at, k = _follow(node, use)
            if at is None:
                # Not built as it was (another watch put its aliases in between): looked for anew.
                use.way = self.learned.ways[site.key, use.pos] = _way(out, node, use, self._before)
                at, k = _follow(node, use)
            if at is None:
                self.failed = True
                return None
            self.arrivals.direct = True
            if at is node:
                here.append((k, use.wants))
            else:
                at.register_hook(self._from_edges([(k, use.wants)]))
        if here:
            assert node is not None
            assert y is not None
            node.register_hook(self._from_edges(here, y.output_nr, wants))
        elif wants is not None:
            assert node is not None
            assert y is not None
            node.register_prehook(self._relay(wants, y.output_nr))
        return out

    def _begin(self, taps: tuple[tuple[int, int], ...], x: Tensor) -> bool:
        """Remembers shape and mean square of a fork at its first use; whether a later use has the same shape."""
        for gather, z in taps:
            part = self.plan.spec(gather)[z][1]
            shape = x.shape if part is None else x.shape[: part[0]] + x.shape[part[0] + 1 :]
            if gather not in self._shapes:
                self._shapes[gather] = shape
                if gather >= 0:
                    self.arrivals.x_squares[gather] = mean_square(x, self.plan.dtype)
            elif self._shapes[gather] != shape and part is None:
                return False
        return True

    def _relay(self, wants: Wants, number: int = 0) -> Callable[[Any], None]:
        """A pre-hook for a node: takes in the gradient that arrives for the node's result `number`."""
        arrivals = self.arrivals

        def arrived(grads: tuple[Tensor | None, ...]) -> None:
            grad = grads[number]
            if grad is not None:
                arrivals.take(((grad, wants),))

        return arrived

    def _from_edges(
        self, edges: list[tuple[int, Wants]], number: int = 0, at_result: Wants | None = None
    ) -> Callable[[Any, Any], None]:
        """A hook for a node: takes in what the node sends along the edges, and what arrives for its result `number`.

        One hook for both, so that `Arrivals.take` sees all of them at once and can tell that two are the same tensor.
        """
        arrivals = self.arrivals

        def arrived(sent: tuple[Tensor | None, ...], came: tuple[Tensor | None, ...]) -> None:
            found: list[tuple[Tensor, Wants]] = []
            if at_result is not None:
                grad = came[number]
                if grad is not None:
                    found.append((grad, at_result))
            for k, wants in edges:
                grad = sent[k]
                if grad is not None:
                    found.append((grad, wants))
            arrivals.take(found)

        return arrived


def _leads(edge: Any, use: _Use) -> bool:
    """Whether an edge goes to the tensor of a use."""
    node, number = edge
    if use.node is None:
        return node is not None and node.name() == LEAF and node.variable is use.x
    return node is use.node and number == use.number


def _follow(node: Any, use: _Use) -> tuple[Any, int]:
    """Walks the way of a use: the last node on it, and the number of that node's edge to x; (None, 0) when it fails.

    The last edge must lead to x itself, as the node may have been built in another way than when the way was learned.
    """
    if not use.way:
        return None, 0
    for k in use.way[:-1]:
        edges = node.next_functions if node is not None else ()
        node = edges[k][0] if k < len(edges) else None
    k = use.way[-1]
    edges = node.next_functions if node is not None else ()
    return (node, k) if k < len(edges) and _leads(edges[k], use) else (None, 0)


def _way(out: Any, start: Any, use: _Use, before: int) -> tuple[int, ...] | None:
    """The way from the node of a call's result to the one edge that leads to x; None when there is none or several."""
    if start is None:
        return None
    # Of several results with nodes of their own, each may send something to x: no one edge carries it all.
    if type(out) is tuple and any(isinstance(t, Tensor) and t.grad_fn not in (None, start) for t in out):
        return None
    found: list[tuple[int, ...]] = []
    seen = {start}
    pending: list[tuple[Any, tuple[int, ...]]] = [(start, ())]
    while pending:
        node, way = pending.pop()
        for k, edge in enumerate(node.next_functions):
            below = edge[0]
            if _leads(edge, use):
                found.append((*way, k))
            # Only through nodes that this call has made: what lies further back belongs to other uses.
            elif below is not None and below not in seen and before <= below._sequence_nr() and below.name() != LEAF:
                seen.add(below)
                pending.append((below, (*way, k)))
    return found[0] if len(found) == 1 else None
