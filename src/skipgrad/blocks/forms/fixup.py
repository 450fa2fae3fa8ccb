"""Fixup: residual nets without norms, by their initialisation, scalar biases and one scale a branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, scaled, through
from skipgrad.blocks.forms._weights import matrices
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears
from skipgrad.core import BadInput


class Bias(nn.Module):
    """x + b with one learned number b, zero at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.to(x.dtype)


class Fixup(nn.Module):
    """x + s·F(x + b) + b′, s = 1 and b = b′ = 0 at the start: any shape that the branch keeps.

    Zhang, Dauphin and Ma, "Fixup initialization" (arXiv 1901.09321). Of the m matrices of F the last starts at zero,
    the others are multiplied by L^(−1/(2m−2)), L the number of branches in the net. In a ``nn.Sequential`` a scalar
    bias goes before each of its children as well, as in the paper; another branch has its biases before and behind
    only.

    Args:
        branch: F, freshly initialised and without norms; its weights are changed.
        num_blocks: L.
        shortcut: what x goes through on its way past the branch, where the shape changes; None for the identity.

    Raises:
        BadInput: fewer than one block, or a branch without matrices; in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, num_blocks: int, *, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        weights = matrices(branch)
        if num_blocks < 1 or not weights:
            raise BadInput(
                "building a Fixup residual",
                received=f"num_blocks={num_blocks}, {len(weights)} matrices in the {type(branch).__name__}",
                todo="give the number of branches in the net, and a branch with a linear map or a convolution",
            )
        with torch.no_grad():
            for _, weight in weights[:-1]:
                weight.mul_(num_blocks ** (-1 / (2 * len(weights) - 2)))
            last, weight = weights[-1]
            weight.zero_()
            if getattr(last, "bias", None) is not None:
                last.bias.zero_()  # type: ignore[union-attr,operator]
        self.before, self.shortcut = Bias(), shortcut
        self.branch = _with_biases(branch) if isinstance(branch, nn.Sequential) else branch
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y = scaled(self.scale, self.branch(self.before(x)))
        return added(self, through(self.shortcut, x), y + self.bias.to(y.dtype))


def _with_biases(branch: nn.Sequential) -> nn.Sequential:
    layers = list(branch)
    return nn.Sequential(layers[0], *(m for layer in layers[1:] for m in (Bias(), layer)))


FORMS.register(
    "fixup",
    FormEntry(
        title="Fixup",
        build=Fixup,
        example=lambda: Fixup(linears(), num_blocks=8),
        shape=FEATURES,
        formula="y = x + s·F(x + b) + b′; last matrix of F zero, the others times L^(−1/(2m−2))",
        paper='Zhang, Dauphin and Ma, "Fixup initialization", 2019 (arXiv 1901.09321)',
        shapes="any → the same; the branch keeps it",
        start="the identity",
        initially=lambda _, x: x,
        finds=(Seen("add", "identity", 2),),
        when="Residual nets without norms, where the norm's regularisation is made up for elsewhere (mixup, "
        "weight decay). Set the head to zero as well.",
        cost="a few numbers a branch",
    ),
)
