"""Where a form can be put into a net: operands of its merges, each an argument of a call in a module's forward."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.finder import Found
from skipgrad.finder.graph import Edge, bits_of
from skipgrad.finder.records import Match
from skipgrad.finder.trace import Node
from skipgrad.remedies.plan import refusal
from skipgrad.remedies.records import Left

Side = Literal["branch", "shortcut"]

_FIRST = ("batch_norm", "group_norm", "instance_norm")  # normalise channels first
_LAST = ("linear", "layer_norm", "rms_norm", "matmul", "addmm")  # have them last
RESULT = -1
_TURNS = ("permute", "transpose", "movedim", "flatten", "t", "mT", "swapaxes", "moveaxis")


@dataclass(frozen=True)
class Place:
    """An argument of a call, as a module's forward makes it.

    Attributes:
        module: path of the module; ``""`` is the model itself.
        name: the function's name.
        number: how many calls of that name the module's forward makes before it.
        position: which tensor of the call, counted in order; `RESULT` is what the call returns.
    """

    module: str
    name: str
    number: int
    position: int

    def __str__(self) -> str:
        what = "the result" if self.position == RESULT else f"tensor {self.position}"
        return f"{what} of {self.name} number {self.number}"


@dataclass(frozen=True)
class Spot:
    """An operand of a skip's merge.

    Attributes:
        skips: the skips whose merge it is (several when the module runs several times in a forward).
        side: whether it is what a branch brings or what a shortcut does.
        place: where to lay hands on it.
        shape: its shape in the trace.
        axis: the dimension of its channels, 1 or -1; None where that is not known.
    """

    skips: tuple[str, ...]
    side: Side
    place: Place
    shape: tuple[int, ...]
    axis: int | None

    @property
    def width(self) -> int:
        """How many channels it has."""
        assert self.axis is not None
        return self.shape[self.axis]


def traced(remedy: str, graph: SkipGraph) -> Found:
    """What the graph was found in.

    Raises:
        RemedyRefused: it was read from a file, which keeps no trace.
    """
    if not isinstance(graph.found, Found):
        raise refusal(
            remedy,
            f"a graph with {len(graph)} skips and no trace" if len(graph) else "a graph with no skip",
            todo="pass the graph that skipgrad.find returned for this model, not one read from a file",
        )
    return graph.found


def spots(
    remedy: str, graph: SkipGraph, wanted: Callable[[Skip], str | None], side: Side = "branch", dense: bool = False
) -> tuple[list[Spot], list[Left]]:
    """The operands on one side of the merges that are wanted.

    Args:
        remedy: for messages.
        graph: the skips, as found (with their trace).
        wanted: why a skip is left alone, or None.
        side: which operands.
        dense: lay hands on what a branch brings to a concatenation of channels where it is made: the layers of a dense
            block read it at every later concatenation.

    Returns:
        The spots in order of execution, and the skips left alone. A skip is left alone as a whole.

    Raises:
        RemedyRefused: the graph has no trace.
    """
    found = traced(remedy, graph)
    calls = Calls(found)
    chosen: dict[Place, Spot] = {}
    left: list[Left] = []
    for skip in graph.skips:
        reason = wanted(skip)
        match = found.matches.get(skip.name)
        if match is None and reason is None:
            reason = "it was not found in one trace"
        mine: list[Spot] = []
        for edge in () if reason or match is None else match.branches if side == "branch" else match.shortcuts:
            assert match is not None
            axis = _axis(found, match)
            made = dense and skip.kind == "concat"
            place = calls.made(edge, match, axis) if made else calls.place(edge, skip.owner)
            if isinstance(place, str):
                reason = place
                break
            shape = found.graph.nodes[found.graph.value(edge)].shape
            mine.append(Spot((skip.name,), side, place, shape, axis))
        if reason is None and not mine:
            reason = f"its {side} cannot be laid hands on"
        taken = next((chosen[s.place] for s in mine if s.place in chosen), None)
        if reason is None and taken is not None and not _same_merge(skip.name, taken.skips[0]):
            reason = f"its {side} is also that of {taken.skips[0]}"
        if reason is not None:
            left.append(Left(skip.name, reason))
            continue
        for s in mine:
            known = chosen.get(s.place)
            chosen[s.place] = s if known is None else Spot((*known.skips, skip.name), side, s.place, s.shape, s.axis)
    return list(chosen.values()), left


def _same_merge(a: str, b: str) -> bool:
    return re.sub(r"#\d+$", "", a) == re.sub(r"#\d+$", "", b)


class Calls:
    """The calls of a trace as a module's forward counts them."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self._by_name: dict[str, dict[int, str]] = {}
        for node in found.trace.nodes:
            if node.call is not None:
                self._by_name.setdefault(node.call.name, {})[node.call.number] = node.module

    def place(self, edge: Edge, module: str) -> Place | str:
        """The argument in the forward of ``module``; or why there is none."""
        node = self.found.graph.nodes[edge.op]
        reason = unreachable(node, edge.pos)
        if reason:
            return reason
        assert node.call is not None
        name = node.call.name
        number = self.number(node, module)
        return number if isinstance(number, str) else Place(module, name, number, edge.pos + node.shift)

    def made(self, edge: Edge, match: Match, axis: int | None) -> Place | str:
        """The call that makes what a branch brings to a concatenation of channels; or why there is none."""
        nodes = self.found.graph.nodes
        merge, node = nodes[match.merge], nodes[self.found.graph.value(edge)]
        many = len(merge.shape)
        if axis is None or merge.dim is None or merge.dim % many != axis % many:
            return "its merge is a concat, and not known to be one of channels"
        if node.inplace:
            return f"what its branch brings is made in place ({node.op})"
        reason = unreachable(node, RESULT)
        if reason:
            return reason
        assert node.call is not None
        module = common(nodes[i].module for i in bits_of(match.branch_nodes) if nodes[i].params)
        number = self.number(node, module)
        return number if isinstance(number, str) else Place(module, node.call.name, number, RESULT)

    def number(self, node: Node, module: str) -> int | str:
        """How many calls of that name the forward of ``module`` makes before a node's call; or why it is not known."""
        assert node.call is not None
        name = node.call.name
        all_of_it = self._by_name[name]
        if len(all_of_it) != self.found.trace.calls[name]:
            return f"some of its calls of {name} left no trace, so that they cannot be counted"
        mine = sorted(k for k, at in all_of_it.items() if inside(at, module))
        if node.call.number not in mine:
            return f"its merge is not made in the forward of {module or 'the model'}"
        index, runs = mine.index(node.call.number), self.runs(module)
        if len(mine) % runs:
            return f"{module} runs {runs} times, not each time alike"
        return index % (len(mine) // runs)

    def runs(self, module: str) -> int:
        """How often a module runs in a forward, as its layers' names tell."""
        many = 1
        for name, _ in self.found.layers if module else ():
            head, _, tail = name.rpartition("#")
            if head and tail.isdigit() and inside(head, module):
                many = max(many, int(tail))
        return many


def inside(path: str, module: str) -> bool:
    """Whether a path is a module's or of something in it."""
    return not module or path == module or path.startswith(f"{module}.")


def common(paths: Iterable[str]) -> str:
    """The module that holds all of some modules."""
    parts = [path.split(".") for path in paths]
    head: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        head.append(names[0])
    return ".".join(head)


def unreachable(node: Node, position: int) -> str:
    """Why an argument of a node's call cannot be replaced; empty when it can."""
    if node.call is None:
        return "its merge has no call of its own (a rule of yours stands in for it)"
    if node.below:
        return "it runs below Python (an exported or scripted program)"
    if position >= node.real:
        return f"its merge is inside a fused call ({node.call.name})"
    if node.within is not None:
        return "its merge is inside an autograd function"
    return ""


def _axis(found: Found, match: Match) -> int | None:
    """The dimension of the channels, as the first op on the branch that knows tells, or the first after the merge."""
    nodes = found.graph.nodes
    if len(nodes[match.merge].shape) == 2:
        return -1
    first = _first_sign(nodes[i] for i in bits_of(match.branch_nodes))
    after = _first_sign(nodes[i] for i in bits_of(found.graph.down[match.merge]) if i > match.merge)
    return first if first is not None else after


def _first_sign(nodes: Iterable[Node]) -> int | None:
    turned = False
    for node in nodes:
        if node.op in _TURNS:
            turned = not turned
        channels_first = node.op.startswith("conv") or node.op in _FIRST
        if channels_first or node.op in _LAST:
            return 1 if channels_first != turned else -1
    return None
