"""The highway connection: a gate mixes x with what the branch makes of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import check_sum
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears


class Highway(nn.Module):
    """g·F(x) + (1 − g)·x with g = σ(G(x)): any shape that branch and gate keep.

    Srivastava, Greff and Schmidhuber, "Highway networks" (arXiv 1505.00387).

    Args:
        branch: F.
        gate: G, a module that returns the gate before its sigmoid; a shape that can be broadcast over x's will do.
        gate_bias: what the last bias of the gate is set to; negative, so that the net starts by carrying x along.
            None leaves it as it is.

    Raises:
        BadInput: in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, gate: nn.Module, *, gate_bias: float | None = -2.0) -> None:
        super().__init__()
        self.branch, self.gate = branch, gate
        biases = [p for name, p in gate.named_parameters() if name.rpartition(".")[2] == "bias"]
        if gate_bias is not None and biases:
            nn.init.constant_(biases[-1], gate_bias)

    def forward(self, x: Tensor) -> Tensor:
        g, f = torch.sigmoid(self.gate(x)), self.branch(x)
        check_sum(self, x, f)
        return g * f + (1 - g) * x


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    g = torch.sigmoid(torch.nn.functional.linear(x, m.gate.weight, torch.full((6,), -2.0, dtype=x.dtype)))  # type: ignore
    return g * m.branch(x) + (1 - g) * x  # type: ignore[operator]


FORMS.register(
    "highway",
    FormEntry(
        title="Highway",
        build=Highway,
        example=lambda: Highway(linears(), nn.Linear(6, 6)),
        shape=FEATURES,
        formula="y = g·F(x) + (1 − g)·x, g = σ(G x)",
        paper='Srivastava, Greff and Schmidhuber, "Highway networks", 2015 (arXiv 1505.00387)',
        shapes="any → the same; branch and gate keep it",
        start="mostly x: the gate's bias is −2, so that g is about .12",
        initially=_initially,
        finds=(Seen("gate", "identity", 2),),
        when="Where the net should learn, unit by unit, how much to pass on (recurrent depth, mixtures).",
        cost="a second matrix of the branch's size for the gate",
        sees="g is computed from activations, so this is a gate and no add.",
    ),
)
