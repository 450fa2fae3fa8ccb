"""A skip as nodes of the trace: the record."""

from __future__ import annotations

from dataclasses import dataclass

from skipgrad.finder.graph import Edge


@dataclass
class Match:
    """A skip as nodes of the trace.

    Attributes:
        kind: "add", "concat", "gate" or "index".
        merge: the node that ends the merge (the last of a chain of adds).
        parts: all nodes of the merge.
        operands: the operand edges of the merge, in order.
        shortcuts: operand edges that are shortcuts.
        branches: operand edges that are branches.
        sources: the fork: one node, or the group an n-ary concat's newest operand descends from.
        shortcut_nodes: bits of the nodes on the shortcut, the fork left out.
        branch_nodes: bits of the nodes on all branches.
        regions: bits per branch.
        label: the shortcut's class.
        pairs: bits of (forks, branch) of every pair of operands that is a shortcut and a branch, the chosen ones and
            the others: the skip is long when any of them is.
    """

    kind: str
    merge: int
    parts: tuple[int, ...]
    operands: tuple[Edge, ...]
    shortcuts: tuple[Edge, ...]
    branches: tuple[Edge, ...]
    sources: tuple[int, ...]
    shortcut_nodes: int
    branch_nodes: int
    regions: tuple[int, ...]
    label: str
    pairs: tuple[tuple[int, int], ...] = ()
    long: bool = False
