"""What layers are called: by the weight they take, so that a name is the same whichever of an owner's weights run."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from skipgrad.finder.graph import Graph, bits_of
from skipgrad.finder.recorder import UNREGISTERED
from skipgrad.finder.trace import Node, Trace

_PARAMETRIZED = re.compile(r"\.?parametrizations\.([^.]+)\.original\d*$")


class Lies(NamedTuple):
    """Where a tensor's values lie in memory."""

    storage: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def weight_owner(node: Node) -> str:
    """Path of the module whose learned tensor the op takes; the op's own module when there are several."""
    owners = {_owner(p) for p in node.params}
    return owners.pop() if len(owners) == 1 else node.module


def layers_of(trace: Trace, graph: Graph) -> list[tuple[str, Node]]:
    """(name, node) of every matrix-like weighted call, in order of execution.

    A layer is called by its owner where that has one weight matrix, else by the weight, with the part of it that the
    call takes: ``block.conv``, ``experts.w1``, ``attn.qkv[8:16]``. A second call on the same is ``block.conv#2``.
    """
    ranks = {n.params[0]: len(n.shape) for n in trace.nodes if n.op == "param"}
    taken = [(graph.nodes[i], _weights(graph.nodes[i], ranks)) for i in bits_of(graph.matrices)]
    # A weight that did not run may be another matrix of its owner; one that was only added, say, is none.
    matrices = {w for _, weights in taken for w in weights} | {w for w in trace.weights if w not in ranks}
    of_owner: dict[str, set[str]] = defaultdict(set)
    for name in matrices - {UNREGISTERED}:
        of_owner[_owner(name)].add(_weight(name))
    seen: Counter[str] = Counter()
    out: list[tuple[str, Node]] = []
    for node, weights in taken:
        name = _name(graph, node, {_weight(w) for w in weights}, of_owner) or "root"
        seen[name] += 1
        out.append((name if seen[name] == 1 else f"{name}#{seen[name]}", node))
    return out


def _name(graph: Graph, node: Node, weights: set[str], of_owner: dict[str, set[str]]) -> str:
    owner = weight_owner(node)
    if len({_owner(w) for w in weights}) != 1 or UNREGISTERED in weights:
        return owner
    part = _part(graph, node)
    if weights >= of_owner[owner] and not part:
        return owner
    prefix = f"{owner}." if owner else ""
    return prefix + "+".join(sorted(w.removeprefix(prefix) for w in weights)) + part


def _owner(parameter: str) -> str:
    return _weight(parameter).rpartition(".")[0]


def _weight(parameter: str) -> str:
    """The weight that a learned tensor makes: ``conv.weight`` for ``conv.parametrizations.weight.original0``."""
    return _PARAMETRIZED.sub(lambda m: ("." if m[0][0] == "." else "") + m[1], parameter)


def _weights(node: Node, ranks: dict[str, int]) -> list[str]:
    """The matrices among the learned tensors that a call takes; all of them where none is a matrix."""
    return [p for p in node.params if ranks.get(p, 2) > 1] or list(node.params)


def _part(graph: Graph, node: Node) -> str:
    """Which part of its weight a call takes, as one indexes it; nothing for the whole, or where it is not known."""
    at = [j for j in node.args if graph.nodes[j].role == "param" and len(graph.nodes[j].shape) > 1]
    if len(at) != 1:
        return ""
    parts: list[str] = []
    i = at[0]
    while True:
        line = list(_line(graph, i))
        # Views of views are told by the first in the line that lies in the same memory.
        shared = [n for n in line if n.lies and line[0].lies and n.lies[0] == line[0].lies[0]]
        if len(shared) > 1:
            parts.insert(0, region(Lies(*shared[-1].lies), Lies(*line[0].lies)))  # type: ignore[misc]
            line = line[line.index(shared[-1]) :]
        if len(line) < 2:
            return "".join(parts)
        i = line[1].i


def _line(graph: Graph, i: int) -> Iterable[Node]:
    """A learned value, what it was made from, and so on, as long as that is one learned value."""
    while True:
        node = graph.nodes[i]
        yield node
        before = [j for j in dict.fromkeys(node.args) if graph.nodes[j].role == "param"]
        if len(before) != 1:
            return
        i = before[0]


def region(whole: Lies, part: Lies) -> str:
    """The index that takes a view from a tensor; nothing for all of it.

    >>> region(Lies(0, 0, (24, 8), (8, 1)), Lies(0, 64, (8, 8), (8, 1)))
    '[8:16]'
    """
    left = part.offset - whole.offset
    steps = {stride: (size, stride) for size, stride in zip(part.shape, part.strides, strict=True) if size > 1}
    dims = sorted(range(len(whole.shape)), key=lambda k: -whole.strides[k])
    words = [":"] * len(whole.shape)
    for n, k in enumerate(dims):
        size, stride = whole.shape[k], whole.strides[k]
        if size == 1 or stride == 0:
            continue
        start, left = divmod(left, stride)
        smaller = whole.strides[dims[n - 1]] if n else 0  # strides from here up to the next larger are of this one
        mine = [s for s in steps if s >= stride and s % stride == 0 and (not smaller or s < smaller)]
        if not mine:
            words[k] = str(start)
            continue
        many, step = steps[mine[0]][0], mine[0] // stride
        if (start, many, step) != (0, size, 1):
            words[k] = f"{start}:{start + (many - 1) * step + 1}" + (f":{step}" if step > 1 else "")
    while words and words[-1] == ":":
        words.pop()
    return f"[{', '.join(words)}]" if words else ""
