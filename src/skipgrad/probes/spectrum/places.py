"""Where the cuts go: finds the calls, and their arguments, at which the branches of the skips behind a fork end."""

from __future__ import annotations

from dataclasses import dataclass, field

from skipgrad.core import MeasureError
from skipgrad.finder import Found
from skipgrad.finder.graph import Edge
from skipgrad.finder.records import Match
from skipgrad.finder.route import route_of
from skipgrad.instrument.calls import Address, Route


@dataclass(frozen=True)
class Want:
    """A cut wanted at a tensor argument of a call.

    Attributes:
        skip: the skip whose merge the call is.
        option: the number of the branch; -1 for an operand that is no branch.
        pos: the tensor argument.
        inplace: whether the call writes its result into that argument.
    """

    skip: str
    option: int
    pos: int
    inplace: bool


@dataclass
class CutSite:
    """What to do at one call.

    Attributes:
        wants: the cuts.
        fork: the tensor argument that is the fork, for the one call at which it is remembered; None for other calls.
    """

    wants: list[Want] = field(default_factory=list)
    fork: int | None = None


@dataclass
class CutPlaces:
    """Everything a forward under cuts needs to know.

    Attributes:
        at: the skip whose fork is meant.
        fork: the node of that fork.
        matches: name of an add skip behind the fork → its match.
        unsplit: names of the other skips behind the fork, whose branches are not told apart.
        sites: call → what to do there.
        route: what those calls looked like in the trace.
    """

    at: str
    fork: int
    matches: dict[str, Match]
    unsplit: tuple[str, ...]
    sites: dict[Address, CutSite] = field(default_factory=dict)
    route: Route = field(default_factory=Route)

    def site(self, call: Address) -> CutSite:
        """The site of a call, made when it is new."""
        return self.sites.setdefault(call, CutSite())


def make_places(found: Found, only: set[str], at: str | None, *, rest: bool = False) -> CutPlaces:
    """The places of the cuts.

    Args:
        found: trace, graph and matches.
        only: names of the skips the caller knows of.
        at: the skip whose fork is meant; the add skip whose fork comes first when None.
        rest: whether the operands that are no branches get cuts, too.

    Raises:
        MeasureError: a skip whose fork or merge cannot be reached.
    """
    graph = found.graph
    known = {n: m for n, m in found.matches.items() if n in only}
    adds = {n: m for n, m in known.items() if m.kind == "add"}
    if at is None:
        if not adds:
            raise MeasureError(
                "measuring the path spectrum",
                received="a model without an add skip",
                todo="without one every gradient path has length 0, and there is nothing to tell apart",
            )
        at = min(adds, key=lambda n: max(adds[n].sources))
    if len(known[at].sources) != 1:
        raise _refusal(at, f"its fork is a group of {len(known[at].sources)} tensors", "choose another skip with at=")
    fork = known[at].sources[0]
    behind = {n for n, m in known.items() if all(graph.down[fork] >> s & 1 for s in m.sources)}
    places = CutPlaces(
        at,
        fork,
        {n: m for n, m in adds.items() if n in behind},
        tuple(n for n, m in known.items() if n in behind and m.kind != "add"),
    )
    for name, match in places.matches.items():
        for option, edge in enumerate(match.branches):
            _want(places, found, name, option, edge)
        for edge in match.operands if rest else ():
            if edge not in match.branches and graph.down[fork] >> graph.nodes[edge.op].args[edge.pos] & 1:
                _want(places, found, name, -1, edge)
    _place_fork(places, found)
    places.route = route_of(found.trace, places.sites)
    return places


def _want(places: CutPlaces, found: Found, name: str, option: int, edge: Edge) -> None:
    node = found.graph.nodes[edge.op]
    if node.call is None:
        raise _refusal(name, f"its merge ({node.op}) is no call of its own", "leave it out of the graph")
    if edge.pos < node.real:
        pos = edge.pos + node.shift
        places.site(node.call).wants.append(Want(name, option, pos, node.inplace and pos == 0))
        return
    # The operand is a product that exists only inside the call (addcmul, baddbmm), so it cannot be cut itself. Whatever
    # gradient goes through it leaves by one of its arguments: cuts on all of these do the same.
    inner = found.graph.nodes[node.args[edge.pos]]
    if inner.call != node.call:
        raise _refusal(name, f"its branch ends inside {node.op}", "leave it out of the graph")
    for pos, j in enumerate(inner.args):
        if j in inner.ins:
            _want(places, found, name, option, Edge(inner.i, pos))


def _place_fork(places: CutPlaces, found: Found) -> None:
    """Plans to remember the fork at its first use, where no later op can have changed it in place yet."""
    graph = found.graph
    for edge in sorted(graph.consumers[places.fork], key=lambda e: e.op):
        node = graph.nodes[edge.op]
        if node.call is not None and edge.pos < node.real and node.op != "output":
            places.site(node.call).fork = edge.pos + node.shift
            return
    raise _refusal(places.at, "no use of its fork is a call that can be seen", "choose another skip with at=")


def _refusal(name: str, reason: str, todo: str) -> MeasureError:
    return MeasureError("measuring the path spectrum", where=f"skip {name!r}", received=reason, todo=todo)
