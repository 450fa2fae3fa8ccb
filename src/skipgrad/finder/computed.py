"""Weights that a forward computes from a learned tensor and an activation.

StyleGAN2's convolutions take a learned kernel that each image's style has scaled, channel by channel (Karras et al.
2020, https://arxiv.org/abs/1912.04958). Such a convolution is as good as one that takes the learned kernel itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from skipgrad.finder.graph import size
from skipgrad.finder.trace import Node

# Ops whose second tensor is their weight.
_WITH_WEIGHT = frozenset(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear convolution _convolution".split()  # noqa: SIM905
)


def in_weight(nodes: Sequence[Node], op: str, held: tuple[int, ...]) -> tuple[str, ...]:
    """The learned tensors that the weight of a convolution or a linear is computed from, where it is an activation.

    Those that an activation has scaled: of a product of the two, the learned one is the larger. A kernel that an
    activation is by itself (predicted for each image, or cut out of another one) has none.

    Args:
        nodes: those before the op.
        op: canonical.
        held: per tensor argument of the op, its node.
    """
    if op not in _WITH_WEIGHT or len(held) < 2 or nodes[held[1]].role != "activation":
        return ()
    found: list[str] = []
    pending = [held[1]]
    for i in pending:  # grows as it goes
        node = nodes[i]
        if node.cls == "matrix":
            continue
        others = [nodes[j] for j in node.args if nodes[j].role == "activation"]
        if node.op == "mul" and node.params and all(size(n.shape) < size(node.shape) for n in others):
            found.extend(node.params)
        pending.extend(j for j in node.ins if j not in pending)
    return tuple(dict.fromkeys(found))
