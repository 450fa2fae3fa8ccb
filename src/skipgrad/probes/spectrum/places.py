"""Where the cuts go: from the add skips behind a fork to arguments of the n-th call of a function."""

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
    """A cut wanted at a tensor argument of a call."""

    skip: str
    option: int
    pos: int
    inplace: bool


@dataclass
class CutSite:
    """What to do at one call.

    Attributes:
        wants: the cuts.
        fork: tensor argument that is the fork, taken down here; None for most calls.
    """

    wants: list[Want] = field(default_factory=list)
    fork: int | None = None


@dataclass
class CutPlaces:
    """Everything a forward under cuts needs to know.

    Attributes:
        at: the skip whose fork is meant.
        fork: its node.
        matches: add skips behind the fork, by name.
        unsplit: names of the other skips behind it.
        sites: what to do at which call.
        route: those calls in the trace.
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
        rest: cuts on the operands that are no branches, too.

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
    # A product that exists only inside the call (addcmul, baddbmm): whatever goes through it came in by one of its
    # arguments, so that cuts on all of them are a cut on it.
    inner = found.graph.nodes[node.args[edge.pos]]
    if inner.call != node.call:
        raise _refusal(name, f"its branch ends inside {node.op}", "leave it out of the graph")
    for pos, j in enumerate(inner.args):
        if j in inner.ins:
            _want(places, found, name, option, Edge(inner.i, pos))


def _place_fork(places: CutPlaces, found: Found) -> None:
    """Takes the fork down where it is first used: the tensor is surely the one meant then, in-place changes or not."""
    graph = found.graph
    for edge in sorted(graph.consumers[places.fork], key=lambda e: e.op):
        node = graph.nodes[edge.op]
        if node.call is not None and edge.pos < node.real and node.op != "output":
            places.site(node.call).fork = edge.pos + node.shift
            return
    raise _refusal(places.at, "no use of its fork is a call that can be seen", "choose another skip with at=")


def _refusal(name: str, reason: str, todo: str) -> MeasureError:
    return MeasureError("measuring the path spectrum", where=f"skip {name!r}", received=reason, todo=todo)
