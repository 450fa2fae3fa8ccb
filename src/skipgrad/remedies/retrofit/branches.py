"""What is on the branches of a net, for the forms that change weights and norms too: their matrices, their norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from skipgrad.core.graph import SkipGraph
from skipgrad.core.skips import Skip
from skipgrad.finder import Found
from skipgrad.finder.graph import bits_of
from skipgrad.finder.records import Match
from skipgrad.finder.trace import Node

NORMS = ("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm")
# Queries and keys, by the names the libraries give them: what they make are weights of a mean, not values.
_ASKS = frozenset(
    {
        "q", "k", "query", "key", "q_proj", "k_proj", "q_lin", "k_lin", "to_q", "to_k", "wq", "wk", "q_norm", "k_norm",
        "q_proj_weight", "k_proj_weight",
    }
)  # fmt: skip
_FUSED = frozenset(["qkv", "in_proj_weight", "query_key_value", "Wqkv", "to_qkv", "qkv_proj"])


@dataclass(frozen=True)
class Branch:
    """One branch of a skip.

    Attributes:
        skip: the skip's name.
        matrices: names of its weights with more than one dimension, in order of execution.
        norms: paths of the modules that normalise on it.
    """

    skip: str
    matrices: tuple[str, ...]
    norms: tuple[str, ...]


def branches_of(found: Found, graph: SkipGraph, names: Sequence[str]) -> list[Branch]:
    """The branches of some skips."""
    nodes = found.graph.nodes
    shapes = {n.params[0]: n.shape for n in nodes if n.op == "param" and n.params}
    out = []
    for skip in graph.skips:
        if skip.name not in names:
            continue
        on_it = [nodes[i] for i in bits_of(found.matches[skip.name].branch_nodes)]
        matrices = [p for n in on_it if n.cls == "matrix" for p in n.params if len(shapes.get(p, (0, 0))) > 1]
        norms = [n.module for n in on_it if n.op in NORMS]
        out.append(Branch(skip.name, tuple(dict.fromkeys(matrices)), tuple(dict.fromkeys(norms))))
    return out


def norm_after(found: Found, match: Match) -> Node | None:
    """The norm that is the only thing that reads a merge; None where there is another reader, or none."""
    nodes, at = found.graph.nodes, match.merge
    while True:
        readers = [e.op for e in found.graph.consumers[at]]
        if len(readers) != 1:
            return None
        node = nodes[readers[0]]
        if node.op in NORMS:
            return node
        if node.cls != "identity":
            return None
        at = node.i


def is_post_norm(graph: SkipGraph, found: Found, skip: Skip) -> bool:
    """Whether a skip is LN(x + F(x)) of a post-norm net: a norm follows the add, and the next skip starts from it.

    The last add of a pre-norm net has a norm behind it too; that norm leads to no skip, and none leads to that skip.
    """
    if norm_after(found, found.matches[skip.name]) is None:
        return False
    later = [s for s in graph.skips if s.previous == skip.name]
    return any(set(s.trunk) & set(NORMS) for s in later or [skip])


def part_of_values(weight: str) -> Fraction | None:
    """From which share of its rows on a weight makes values: 0 for all; None for one that makes queries or keys."""
    parts = weight.split(".")
    if _ASKS & set(parts):
        return None
    return Fraction(2, 3) if _FUSED & set(parts) else Fraction(0)


def is_plain_norm(module: nn.Module) -> bool:
    """Whether a module is a norm of torch's, or a kind of one, and holds nothing else, so that it can move."""
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return isinstance(module, kinds) and not any(True for _ in module.children())
