"""Finds in a trace the calls at which the representations of a net can be seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.finder import Found
from skipgrad.finder.trace import Node
from skipgrad.probes.drift.glance import Place


def merges(found: Found, names: list[str], model: nn.Module) -> tuple[list[tuple[str, Place, Node]], list[str]]:
    """(skip, where the result of its merge can be seen, node) per skip; and notes on skips where it cannot be seen."""
    out: list[tuple[str, Place, Node]] = []
    notes: list[str] = []
    for name in names:
        node = found.graph.nodes[found.matches[name].merge]
        if not _in_python(node, model):
            notes.append(f"{name}: not measured: its merge ({node.op}) is no call of its own in Python")
        elif not node.floating or node.dtype.is_complex:
            notes.append(f"{name}: not measured: its merge is {node.dtype}")
        else:
            assert node.call is not None
            out.append((name, Place(node.call, result=node.result), node))
    return sorted(out, key=lambda o: o[2].i), notes


def _in_python(node: Node, model: nn.Module) -> bool:
    """Whether a node is a call that a run makes in Python, as all of an `fx.GraphModule`'s are."""
    return node.call is not None and (not node.below or isinstance(model, torch.fx.GraphModule))


def inputs(found: Found, model: nn.Module) -> tuple[list[tuple[str, Place, Node]], list[str]]:
    """(layer, where its input can be seen, node of the input) per layer; of several with one input only the first."""
    out: dict[int, tuple[str, Place, Node]] = {}
    for name, node in found.layers:
        for pos, j in enumerate(node.args):
            value = found.graph.nodes[j]
            if value.role != "activation" or not value.floating or value.dtype.is_complex:
                continue
            if pos < node.real and _in_python(node, model) and value.op != "input":
                assert node.call is not None
                out.setdefault(j, (name, Place(node.call, pos=pos + node.shift), value))
            break
    return list(out.values()), []


def before(found: Found, nodes: list[int], values: list[Tensor]) -> list[int | None]:
    """Per value, the latest other value that it was computed from; None when there is none, or of another shape."""
    out: list[int | None] = []
    for i, node in enumerate(nodes):
        made_from = [k for k, other in enumerate(nodes) if other != node and found.graph.up[node] >> other & 1]
        latest = max(made_from, key=lambda k: nodes[k], default=None)
        out.append(latest if latest is not None and values[latest].shape == values[i].shape else None)
    return out
