"""Where the taps go: turns the matches of a trace into addresses ("argument 0 of the third ``conv2d``")."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from skipgrad.finder import Found, ops
from skipgrad.finder.graph import Edge, bits_of
from skipgrad.finder.records import Match
from skipgrad.finder.route import route_of
from skipgrad.finder.trace import Node
from skipgrad.instrument.calls import Address, Look, Route
from skipgrad.ledger.sources import Group, SourcePlan, leaves_of
from skipgrad.ledger.statistics import Spec


@dataclass(frozen=True, slots=True)
class Wants:
    """What one gradient is wanted for.

    Attributes:
        taps: (gather, index of its z): the gradient is a part of that gather's S or B.
        outs: out rows that hold its size, as dL/dy of a merge.
        layers: layer rows that hold its size, as dL/dz of a layer.
    """

    taps: tuple[tuple[int, int], ...] = ()
    outs: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()


@dataclass
class Site:
    """What to do at one call.

    Attributes:
        taps: tensor argument → the (gather, index of its z) that want its gradient; gather ~k is group k of sources.
        outs: the (out row, tensor argument) whose gradient is dL/dy; argument -1 is what the call returns.
        squares: (out row, tensor argument): arguments that are F(x) at a merge.
        results: (gather, index of its z) that want the gradient of what the call returns.
        layers: layer rows measured at what the call returns.
        alias: whether the function asks if two of its arguments are the same object.
        look: what the call looked like in the trace.
        key: the number of the site in its plan.
        wanted: tensor argument → what is wanted of its gradient.
        wanted_of_result: what is wanted of the gradient of what the call returns.
        looked_at: the tensor arguments that are tapped or measured.
    """

    taps: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    outs: list[tuple[int, int]] = field(default_factory=list)
    squares: list[tuple[int, int]] = field(default_factory=list)
    results: list[tuple[int, int]] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    alias: bool = False
    look: Look = field(default_factory=Look)
    key: int = 0
    wanted: dict[int, Wants] = field(default_factory=dict)
    wanted_of_result: Wants | None = None
    looked_at: tuple[int, ...] = ()

    def settle(self, key: int, look: Look) -> None:
        """Sums up what each gradient is wanted for, once all skips and layers have put their wishes in."""
        self.key, self.look = key, look
        for pos in (*self.taps, *(pos for _, pos in self.outs if pos >= 0)):
            outs = tuple(row for row, at in self.outs if at == pos)
            self.wanted[pos] = Wants(tuple(self.taps.get(pos, ())), outs)
        of_result = Wants(tuple(self.results), tuple(row for row, at in self.outs if at < 0), tuple(self.layers))
        self.wanted_of_result = None if of_result == Wants() else of_result
        places = {*self.wanted, *(pos for _, pos in self.squares)}
        self.looked_at = tuple(sorted(places))

    def put(self, new: list[Tensor], pos: int, tapped: Tensor, given: list[Tensor]) -> None:
        """Puts a tapped tensor in the place of an argument, and of its twins where the call looks for twins."""
        for k in range(len(given)):
            if k == pos or (self.alias and given[k] is given[pos]):
                new[k] = tapped


@dataclass
class SkipPlan:
    """The rows that one skip's figures are read from.

    Attributes:
        name: of the skip.
        gathers: (gather, share of the fork's elements), one for each source of the fork.
        out: the out row.
        out_scale: the factor from the size in the out row to ‖dL/dy‖.
        squares: False where F(x) exists only inside a call, so that its size cannot be read.
        cut: which of "fork", "shortcut" and "branch" is detached, so that no gradient comes back; "" when none is.
        sources: the sources of a concatenation of several, where they were asked for.
    """

    name: str
    gathers: list[tuple[int, float]]
    out: int
    out_scale: float
    squares: bool = True
    cut: str = ""
    sources: tuple[SourcePlan, ...] = ()


@dataclass
class TapPlan:
    """Everything a watch needs to know of a model.

    Attributes:
        sites: function name → number of the call → what to do there.
        route: the calls of the trace that are sites.
        specs: per gather, what each of its z's is.
        skips: the skips that are measured.
        layers: per layer row, (layer, depth, names of its weights).
        outs: how many out rows there are.
        refused: skip → why it cannot be measured.
        dtype: the dtype of the figures.
        hidden: calls that are made below Python (in TorchScript, in extensions), where a run cannot be tapped.
        groups: groups of sources that are measured one by one. Where a gather is asked for, ~k stands for group k.
        forks: per gather, the (node, number of values) that x consists of.
        ends: per out row, the nodes that F consists of.
    """

    sites: dict[str, dict[int, Site]] = field(default_factory=dict)
    route: Route = field(default_factory=Route)
    specs: list[Spec] = field(default_factory=list)
    skips: list[SkipPlan] = field(default_factory=list)
    layers: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)
    outs: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    hidden: frozenset[Address] = frozenset()
    groups: list[Group] = field(default_factory=list)
    forks: list[tuple[tuple[int, int], ...]] = field(default_factory=list)
    ends: list[tuple[int, ...]] = field(default_factory=list)

    def spec(self, gather: int) -> Spec:
        """The uses whose gradients a gather, or a group of sources, is of."""
        return self.groups[~gather].spec if gather < 0 else self.specs[gather]

    def sized(self) -> frozenset[int]:
        """The nodes whose mean square is read, as x or F."""
        forks = (node for fork in self.forks for node, _ in fork)
        return frozenset([*forks, *(node for nodes in self.ends for node in nodes)])

    def site(self, call: Address) -> Site:
        """The site of a call, made when it is new."""
        return self.sites.setdefault(call.name, {}).setdefault(call.number, Site())


_NO_CALL = "no call of its own (a rule of yours stands in for it, or it is a part of a larger op)"


class _Refused(Exception):  # says that a skip cannot be measured; its message is what the user reads
    pass


# The uses of a tensor (or of a group of tensors that stand side by side), how many values it has, and its nodes.
_Fork = tuple[list["_Use"], int, tuple[int, ...]]


def make_plan(
    found: Found,
    only: set[str] | None = None,
    *,
    hidden: frozenset[Address] = frozenset(),
    sources: bool = False,
    layers: bool = True,
) -> TapPlan:
    """The plan for measuring the skips of a trace.

    Args:
        found: trace, graph and matches.
        only: names of the skips wanted; all when None.
        hidden: calls of the trace that a run does not make in Python.
        sources: of a concatenation of several, each is measured by itself, too.
        layers: the weighted layers are measured, too.
    """
    plan = TapPlan(hidden=hidden)
    wide = any(n.dtype == torch.float64 for n in found.trace.nodes if n.role == "activation")
    plan.dtype = torch.float64 if wide else torch.float32
    for name, match in found.matches.items():
        if only is not None and name not in only:
            continue
        try:
            _plan_skip(plan, found, name, match, sources=sources)
        except _Refused as reason:
            plan.refused[name] = str(reason)
    for depth, (name, node) in enumerate(found.layers if layers else ()):
        call = _call_of(found, node)
        if call is None or node.inplace or node.dtype.is_complex or call in hidden:
            continue
        shapes = {n.params[0]: n.shape for n in found.trace.nodes if n.op == "param"}
        weights = tuple(p for p in node.params if len(shapes.get(p, (0, 0))) > 1)
        plan.site(call).layers.append(len(plan.layers))
        plan.layers.append((name, depth, weights))
    calls = [Address(name, number) for name, sites in plan.sites.items() for number in sites]
    plan.route = route_of(found.trace, calls)
    for key, call in enumerate(calls):
        plan.site(call).settle(key, plan.route.looks[call])
    return plan


@dataclass
class _Use:
    """One use of a fork: the gradient of argument `pos` of a call (-1: of its result) is a part of S or B."""

    call: Address
    pos: int
    role: str
    part: tuple[int, int, int, int] | None = None
    alias: bool = False


def _plan_skip(plan: TapPlan, found: Found, name: str, match: Match, *, sources: bool) -> None:
    if match.kind == "index":
        raise _Refused("pooling indices carry no gradient; all of dL/dx comes through the branch")
    if any(found.graph.nodes[i].dtype.is_complex for i in (*match.sources, match.merge)):
        raise _Refused("complex tensors are not measured")
    grouped = _grouped(found, match)
    groups = [grouped] if grouped else _per_source(found, match)
    if not groups:
        raise _Refused("no use of its fork can be tapped")
    for uses, _, _ in groups:
        roles = {u.role for u in uses}
        if not roles:
            raise _Refused("a source of its fork is not used by shortcut or branch")
    if not any(u.role == "S" for uses, _, _ in groups for u in uses):
        raise _Refused("its shortcut cannot be told from its branch at the fork")
    if not any(u.role == "B" for uses, _, _ in groups for u in uses):
        raise _Refused("its branch cannot be told from its shortcut at the fork")
    out = _out(found, match)  # may refuse, before anything is planned
    if not plan.hidden.isdisjoint((out[0], *(u.call for uses, _, _ in groups for u in uses))):
        raise _Refused("it runs below Python (TorchScript, a compiled extension), where nothing can be tapped")
    # x is the sources side by side, so its mean square is the mean of theirs, weighted by how many values each has.
    total = sum(size for _, size, _ in groups)
    gathers: list[tuple[int, float]] = []
    for uses, size, nodes in groups:
        gather = len(plan.specs)
        plan.forks.append(tuple((i, _numel(found.graph.nodes[i])) for i in nodes))
        plan.specs.append(tuple((u.role, u.part) for u in uses))
        gathers.append((gather, size / total if total else 1 / len(groups)))
        _want(plan, uses, gather)
    row = plan.outs
    plan.outs += 1
    call, pos, scale = out
    plan.site(call).outs.append((row, pos))
    plan.ends.append(tuple(found.graph.value(e) for e in match.branches))
    operands = [(found.graph.nodes[e.op], e.pos) for e in match.branches]
    squares = all(
        node.call is not None and node.call not in plan.hidden and _position(node, pos) is not None
        for node, pos in operands
    )
    for node, pos in operands if squares else ():
        assert node.call is not None
        plan.site(node.call).squares.append((row, pos + node.shift))
    one_by_one = _plan_sources(plan, found, match, groups, [g for g, _ in gathers]) if sources else ()
    plan.skips.append(SkipPlan(name, gathers, row, scale, squares, _cut(found, match), one_by_one))


def _want(plan: TapPlan, uses: list[_Use], gather: int) -> None:
    for z, use in enumerate(uses):
        site = plan.site(use.call)
        site.alias = site.alias or use.alias
        if use.pos < 0:
            site.results.append((gather, z))
        else:
            site.taps.setdefault(use.pos, []).append((gather, z))


def _plan_sources(
    plan: TapPlan, found: Found, match: Match, groups: list[_Fork], gathers: list[int]
) -> tuple[SourcePlan, ...]:
    """Where the figures of each source come from: a gather of its own, or a row of the group that it is in."""
    dim = found.graph.nodes[match.merge].dim
    leaves = [leaves_of(found, dim, nodes) for _, _, nodes in groups]
    if match.kind != "concat" or sum(map(len, leaves)) < 2:
        return ()
    out: list[SourcePlan] = []
    for (uses, _, _), gather, mine in zip(groups, gathers, leaves, strict=True):
        if len(mine) == 1:
            out.append(SourcePlan(mine[0], gather))
            continue
        assert dim is not None
        group = ~len(plan.groups)
        plan.groups.append(Group(tuple((u.role, u.part) for u in uses), dim, tuple(leaf.width for leaf in mine)))
        _want(plan, uses, group)
        out += [SourcePlan(leaf, group, row) for row, leaf in enumerate(mine)]
    return tuple(sorted(out, key=lambda s: s.leaf.node))


def _cut(found: Found, match: Match) -> str:
    """Which of "fork", "shortcut" and "branch" is detached; "" when none is."""
    nodes = found.graph.nodes
    for source in match.sources:
        at = nodes[source]
        while at.cls in ("identity", "slice") and len(at.ins) == 1:
            if at.op == "detach":
                return "fork"
            at = nodes[at.ins[0]]
    for side, bits in (("shortcut", match.shortcut_nodes), ("branch", match.branch_nodes)):
        if any(nodes[i].op == "detach" for i in bits_of(bits)):
            return side
    return ""


def _position(node: Node, pos: int) -> int | None:
    """Which tensor argument of the real call argument `pos` of a node is; None for a value that exists only inside."""
    return pos + node.shift if pos < node.real else None


def _per_source(found: Found, match: Match) -> list[_Fork]:
    groups: list[_Fork] = []
    pending = list(match.sources)
    seen: set[int] = set()
    while pending:
        source = pending.pop(0)
        if source in seen:
            continue
        seen.add(source)
        uses, parts = _uses(found, match, source)
        pending = parts + pending
        if uses:
            groups.append((uses, _numel(found.graph.nodes[source]), (source,)))
    return groups


def _uses(found: Found, match: Match, source: int) -> tuple[list[_Use], list[int]]:
    """The uses of a value on shortcut and branch; and the parts to look at instead, where an op only splits it up."""
    graph = found.graph
    uses: list[_Use] = []
    parts: list[int] = []
    paths = match.shortcut_nodes | match.branch_nodes
    on_path = [graph.nodes[e.op] for e in graph.consumers[source] if paths >> e.op & 1 or e in match.shortcuts]
    apart = len({n.region for n in on_path}) > 1
    for edge in graph.consumers[source]:
        node = graph.nodes[edge.op]
        short = edge in match.shortcuts or bool(match.shortcut_nodes >> edge.op & 1)
        branch = bool(match.branch_nodes >> edge.op & 1)
        if node.op == "output" or (not short and not branch and node.op in ops.SPLITS) or (short and branch):
            if node.op == "output" or node.op in ops.SPLITS:
                children = [node.i] if node.op == "output" else [c.op for c in graph.consumers[node.i]]
                parts += [c for c in children if c not in parts]
                continue
            raise _Refused("one op takes its fork into shortcut and branch alike")
        if short or branch:
            if _written_through(found, source, node):
                raise _Refused(f"a view of its fork ({node.op}) is changed in place")
            use = _use(found, edge, "S" if short else "B", apart=apart)
            twins = [u for u in uses if u.call == use.call] if use.alias else []
            if any(u.role != use.role for u in twins):
                raise _Refused("one function takes its fork into shortcut and branch alike")
            # Attention on one tensor three times: one alias stands for all three, and one gradient comes back.
            if not twins:
                uses.append(use)
    return uses, parts


def _call_of(found: Found, node: Node) -> Address | None:
    """The call whose first result is this node: its own, or the application of an autograd function that it ends."""
    if node.within is None:
        return node.call
    results = found.trace.applied[node.within][1] if node.within in found.trace.applied else ()
    return node.within if results[:1] == (node.i,) else None


def _use(found: Found, edge: Edge, role: str, *, apart: bool = False) -> _Use:
    node = found.graph.nodes[edge.op]
    source = node.args[edge.pos]
    # A reentrant checkpoint that holds only some of the uses is one op: what it sends back to x is read where it does.
    if apart and node.region is not None:
        given = found.trace.applied[node.region][0] if node.region in found.trace.applied else ()
        if source in given:
            return _Use(node.region, given.index(source), role, alias=True)
    if node.within is not None:
        given = found.trace.applied[node.within][0] if node.within in found.trace.applied else ()
        if source in given:  # x goes in at this argument of the function
            return _Use(node.within, given.index(source), role, alias=True)
        raise _Refused(f"a use of its fork ({node.op}) is inside an autograd function that is not given the fork")
    pos = _position(node, edge.pos)
    if node.call is None or pos is None:
        raise _Refused(f"a use of its fork ({node.op}) is {_NO_CALL}")
    if node.inplace and edge.pos == 0:
        # ``x += F``: what arrives at x is what arrives at the other operand.
        plain = node.op == "add" and node.number == 1 and len(node.args) == 2 and _plain_operand(found, node, 1)
        if role != "S" or not plain:
            raise _Refused(f"its fork is changed in place by {node.op}")
        pos = 1
    return _Use(node.call, pos, role, alias=node.op in ops.IDENTITY_SENSITIVE)


def _written_through(found: Found, source: int, node: Node) -> bool:
    """Whether what the op returns is a view that is later changed in place: the change must reach the fork itself."""
    if node.cls not in ("identity", "slice"):
        return False
    reach = found.graph.down[node.i]
    versions = {source}
    for n in found.graph.nodes[source + 1 :]:
        if not n.args or n.args[0] not in versions:
            continue
        if n.op == "slice_scatter" and n.call is None:
            if reach >> n.args[1] & 1:
                return True
            versions.add(n.i)
        elif n.inplace:
            versions.add(n.i)
    return False


def _plain_operand(found: Found, node: Node, pos: int) -> bool:
    """Whether dL/d(argument) is dL/d(result) up to a factor: same shape, tensor argument of an add."""
    return pos < node.real and found.graph.nodes[node.args[pos]].shape == node.shape


def _numel(node: Node) -> int:
    out = 1
    for s in node.shape:
        out *= s
    return out


def _grouped(found: Found, match: Match) -> _Fork | None:
    """Dense concatenation: S and B read off the gradients of two concatenations, instead of one tap per source.

    Holds when the fork's sources stand first, in order, in the merge, and the branch uses them all in one
    earlier concatenation of exactly them.
    """
    if match.kind != "concat" or len(match.sources) < 2:
        return None
    graph = found.graph
    end = graph.nodes[match.merge]
    k = len(match.sources)
    if len(match.parts) != 1 or end.args[:k] != match.sources or end.dim is None or end.call is None:
        return None
    used = {e.op for s in match.sources for e in graph.consumers[s] if match.branch_nodes >> e.op & 1}
    if len(used) != 1:
        return None
    start = graph.nodes[used.pop()]
    if start.cls != "cat" or start.args != match.sources or start.dim != end.dim or start.call is None:
        return None
    # The concatenation stands for the group; where else it goes is no part of B.
    uses = [_use(found, e, "B") for e in graph.consumers[start.i] if match.branch_nodes >> e.op & 1]
    length = start.shape[end.dim]
    uses.append(_Use(end.call, -1, "S", (end.dim, end.shape[end.dim], 0, length)))
    return uses, _numel(start), tuple(match.sources)


def _out(found: Found, match: Match) -> tuple[Address, int, float]:
    """Where dL/dy is read: (call, argument or -1 for the result, factor from the size read there to ‖dL/dy‖)."""
    node = found.graph.nodes[match.merge]
    call = _call_of(found, node)
    if call is None and node.within is not None:
        raise _Refused(f"its merge ({node.op}) is inside an autograd function")
    if call is None or node.call is None:
        raise _Refused(f"its merge ({node.op}) is {_NO_CALL}")
    if not node.inplace:
        return call, -1, 1.0
    # What ``x += F`` returns is x itself, the object it was given: there is no result to tap. But what arrives at the
    # other operand is dL/dy times alpha.
    for pos in range(1, len(node.args)):
        if found.graph.nodes[node.args[pos]].role == "activation" and _plain_operand(found, node, pos):
            if node.op not in ("add", "sub") or node.number == 0:
                break
            return node.call, pos + node.shift, 1.0 / abs(node.number)
    raise _Refused("its merge changes its operand in place, and the other operand is broadcast")
