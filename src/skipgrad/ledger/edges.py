"""Edges of autograd's graph: which of them lead to a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor

LEAF = "torch::autograd::AccumulateGrad"


class Target(NamedTuple):
    """Where an edge leads when it leads to a tensor: the tensor's node and number, or the leaf itself."""

    node: Any
    number: int
    leaf: Tensor | None = None


def target_of(tensor: Tensor) -> Target | None:
    """Where edges to a tensor lead; None for one that needs no gradient."""
    if not tensor.requires_grad:
        return None
    node = tensor.grad_fn
    return Target(None, 0, tensor) if node is None else Target(node, tensor.output_nr)


def edges_to(nodes: Iterable[Any], before: int, target: Target) -> list[tuple[Any, int]]:
    """The (node, number of an edge) that lead to a tensor, among the nodes from these down to those that are older."""
    found: list[tuple[Any, int]] = []
    pending = [n for n in nodes if n.name() != LEAF and n._sequence_nr() >= before]
    seen = set(pending)
    while pending:
        node = pending.pop()
        for k, (below, number) in enumerate(node.next_functions):
            if below is None:
                continue
            if target.leaf is None:
                if below is target.node and number == target.number:
                    found.append((node, k))
                    continue
            elif below.name() == LEAF:
                if below.variable is target.leaf:
                    found.append((node, k))
                continue
            # Only through nodes that this call has made: what lies further back belongs to other uses.
            if below not in seen and below.name() != LEAF and below._sequence_nr() >= before:
                seen.add(below)
                pending.append(below)
    return found
