"""Whether one of two operands of a merge is a shortcut past the other, and what the shortcut does to x."""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.finder import ops
from skipgrad.finder.graph import Edge, Graph, bits_of, size

MAX_SHORTCUT_OPS = 64  # a path of more ops is not called a shortcut
# The label that an op gives to the shortcut it is on, where that is not the op's own class. A shortcut of several ops
# has the label that is highest in rank.
_CARRIES = {"matrix": "projection", "add": "identity", "cat": "slice", "stack": "identity"}
_RANK = {name: k for k, name in enumerate(("identity", "scaled", "slice", "resample", "pool", "projection"))}


@dataclass(frozen=True)
class Pair:
    """Two operands of a merge, one a shortcut past the other.

    Attributes:
        fork: the latest activation both descend from.
        shortcut: the operand that is the shortcut.
        branch: the operand that the shortcut bypasses.
        short: bits of the nodes on the shortcut.
        region: bits of the nodes on the branch.
        label: the shortcut's class.
    """

    fork: int
    shortcut: Edge
    branch: Edge
    short: int
    region: int
    label: str


def pair_of(graph: Graph, kind: str, end: int, a: Edge, b: Edge) -> Pair | None:
    """The pair in which operand `a` is a shortcut past operand `b`; None when `a` is no such shortcut."""
    va, vb = graph.value(a), graph.value(b)
    if va == vb:
        return None
    indexed = graph.nodes[a.op].op in ops.INDEXED_ADDS and a.pos > 0  # goes where indices say, and is not broadcast
    if kind == "add" and not indexed and smaller(graph, va, end):
        return None  # a broadcast shortcut is an injection
    x = graph.common(va, vb)
    if x is None or x == vb:
        return None
    branch = graph.between(x, vb)
    heavy = (branch & graph.weighted).bit_count()
    # No weights since x, but x is a view: the same activation under another name. The branch's weighted ops may have
    # read the tensor that was viewed, so the search goes on from there.
    while heavy == 0 and _is_view(graph, x):
        x = graph.nodes[x].ins[0]
        branch = graph.between(x, vb)
        heavy = (branch & graph.weighted).bit_count()
    if heavy == 0:
        return None
    short = graph.between(x, va)
    label = _shortcut(graph, x, short, kind)
    if label is None:
        return None
    if indexed and _RANK[label] < _RANK["slice"]:
        label = "slice"
    # A projection has a weighted op of its own. The path with more of them is the branch; with as many, neither is.
    if heavy <= (short & graph.weighted).bit_count():
        return None
    return Pair(x, a, b, short, branch, label)


def _is_view(graph: Graph, x: int) -> bool:
    node = graph.nodes[x]
    return node.cls == "identity" and node.op != "output" and len(node.ins) == 1 and graph.nodes[node.ins[0]].floating


def smaller(graph: Graph, value: int, end: int) -> bool:
    """Whether an operand has fewer elements than the merge's result, so that the merge broadcasts it."""
    shape, whole = graph.nodes[value].shape, graph.nodes[end].shape
    # An empty batch is broadcast like any other.
    return shape != whole and size(tuple(s or 1 for s in shape)) < size(tuple(s or 1 for s in whole))


def _shortcut(graph: Graph, x: int, bits: int, kind: str) -> str | None:
    """The label of the path from `x` whose nodes are `bits`; None when the path is no shortcut.

    A shortcut is linear in x and has at most one weight matrix and one other op with learned numbers (a norm, say).
    """
    if bits.bit_count() > MAX_SHORTCUT_OPS:
        return None
    nodes = graph.nodes
    inside = bits | 1 << x
    label, matrices, learned = "identity", 0, 0
    for i in bits_of(bits):
        node = nodes[i]
        on_path = [j for j in node.args if inside >> j & 1]
        if node.cls in ("nonlinear", "constant", "unpool", "lerp"):
            return None
        if (node.cls == "matrix" or node.op in ("mul", "div")) and len(on_path) > 1:
            return None  # x times x is quadratic
        if any(inside >> k & 1 for j in node.args for k in nodes[j].looked):
            return None  # masked by its own values: no longer linear
        if node.op == "div" and node.args and node.args[0] not in on_path:
            return None  # divides something by x
        if node.op in ("rdiv",):
            return None  # a number divided by x
        if node.cls == "pool" and kind == "concat" and node.op not in ("sum",):
            return None  # pooling beside other branches is a branch among branches
        if node.cls == "matrix":
            if node.op in ops.CELLS or (node.weight != 2 and len(node.ins) > len(on_path)):
                return None  # not linear in the path, or a product with another activation
            matrices += node.weight == 2
        elif node.weight == 1:
            learned += 1
        cls = _CARRIES.get(node.cls, node.cls)
        if node.cls == "matrix" and not node.weight:
            cls = "resample"  # a product with a constant matrix (an interpolation, a blur) has nothing to learn
        if node.op == "getitem" and size(node.shape) == size(nodes[node.args[0]].shape):
            cls = "identity"  # ``x[None]``
        if cls in _RANK and _RANK[cls] > _RANK[label]:
            label = cls
    if matrices > 1 or learned > 1:
        return None
    return label
