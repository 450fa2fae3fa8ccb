"""The sources of a concatenation: which layers made the tensors that stand side by side in its fork.

A dense net keeps a growing list of tensors and concatenates all of it before every layer (torchvision's), or
concatenates the last concatenation and the newest tensor (`skipgrad.blocks.DenseLayer`). Either way the sources
are the tensors themselves: a concatenation in the fork is taken apart into what was put into it.
"""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.finder import Found
from skipgrad.finder.trace import Node
from skipgrad.ledger.statistics import Spec

_COPIES = ("clone", "contiguous")  # a copy of a concatenation is taken apart like the concatenation


@dataclass(frozen=True)
class Leaf:
    """One source.

    Attributes:
        node: number of its node in the trace.
        name: of the layer that made it; see `SourceRow`.
        width: size along the dimension that is concatenated; 0 where there is none.
    """

    node: int
    name: str
    width: int


@dataclass(frozen=True)
class Group:
    """Sources that stand side by side in one tensor, and are measured together as slices of that tensor's gradients.

    Attributes:
        spec: what each use of that tensor is; as of a gather.
        dim: the dimension they stand side by side along.
        widths: their sizes along it, in the order in which they stand.
    """

    spec: Spec
    dim: int
    widths: tuple[int, ...]

    @property
    def many(self) -> int:
        """How many sources the group has."""
        return len(self.widths)


@dataclass(frozen=True)
class SourcePlan:
    """Where the figures of a source are: row `row` of group ``~gather``, or all of gather `gather` when that is ≥ 0."""

    leaf: Leaf
    gather: int
    row: int = 0


def leaves_of(found: Found, dim: int | None, nodes: tuple[int, ...]) -> list[Leaf]:
    """The sources of which the given tensors consist, in the order in which they stand.

    Args:
        found: the trace.
        dim: the dimension that is concatenated at the merge; None where it is not known.
        nodes: tensors that stand side by side in the fork.
    """
    layers = {node.i: name for name, node in found.layers}
    return [
        Leaf(i, _maker(found, layers, i), _width(found.graph.nodes[i], dim))
        for node in nodes
        for i in _apart(found, dim, node)
    ]


def _width(node: Node, dim: int | None) -> int:
    return node.shape[dim] if dim is not None and dim < len(node.shape) else 0


def _apart(found: Found, dim: int | None, i: int) -> list[int]:
    nodes = found.graph.nodes
    at = nodes[i]
    while at.op in _COPIES and len(at.args) == 1:
        at = nodes[at.args[0]]
    if dim is None or at.cls != "cat" or at.dim != dim or at.call is None:
        return [i]
    if sum(_width(nodes[j], dim) for j in at.args) != _width(at, dim):
        return [i]
    return [leaf for j in at.args for leaf in _apart(found, dim, j)]


def _maker(found: Found, layers: dict[int, str], i: int) -> str:
    """The layer a value comes from on a path of ops that take one activation each."""
    node = found.graph.nodes[i]
    while node.i not in layers:
        if node.op == "input":
            return "input"
        if node.role != "activation":
            return node.params[0] if node.params else "constant"
        if len(node.ins) != 1:
            return node.module or "root"
        node = found.graph.nodes[node.ins[0]]
    return layers[node.i]
