"""DeepNorm: Post-LN that weighs its shortcut up and its branch down, by the depth of the net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added
from skipgrad.blocks.forms._weights import matrices
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears
from skipgrad.core import BadInput

_QUERY_KEY = ("q_proj", "k_proj", "query", "key", "q", "k", "wq", "wk", "to_q", "to_k")


class DeepNorm(nn.Module):
    """norm(α·x + F(x)) with α = (2N)^¼, and the weights of F times β = (8N)^−¼ at the start.

    Wang et al., "DeepNet: scaling transformers to 1,000 layers" (arXiv 2203.00555), for a net that is all encoder or
    all decoder. β is for the feed-forward, the values and the output of the attention; queries and keys are left as
    they are (by name, or as the first two thirds of a packed ``qkv`` or ``in_proj_weight``).

    Args:
        branch: F, freshly initialised; its weights are multiplied by β.
        norm: the norm over the sum.
        layers: N, transformer blocks of the net (each has two such branches).

    Raises:
        BadInput: fewer than one layer; in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, norm: nn.Module, layers: int) -> None:
        super().__init__()
        if layers < 1:
            raise BadInput(
                "building a DeepNorm residual", received=f"layers={layers}", todo="give the number of blocks"
            )
        self.branch, self.norm = branch, norm
        self.alpha = (2 * layers) ** 0.25
        scale_down(branch, (8 * layers) ** -0.25)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(added(self, self.alpha * x, self.branch(x)))


@torch.no_grad()
def scale_down(branch: nn.Module, beta: float) -> None:
    """Multiplies the weights of a branch by β, those of queries and keys left out."""
    names = {id(m): name.rpartition(".")[2] for name, m in branch.named_modules()}
    for module, weight in matrices(branch):
        name = names[id(module)]
        if name in _QUERY_KEY:
            continue
        if name == "qkv" or isinstance(module, nn.MultiheadAttention):
            weight = weight[2 * weight.shape[0] // 3 :]
        weight.mul_(beta)


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    return m.norm(24**0.25 * x + m.branch(x))  # type: ignore[operator]


FORMS.register(
    "deepnorm",
    FormEntry(
        title="DeepNorm",
        build=DeepNorm,
        example=lambda: DeepNorm(linears(), nn.LayerNorm(6), layers=12),
        shape=TOKENS,
        formula="y = norm(α·x + F(x)), α = (2N)^¼; F's weights times β = (8N)^−¼",
        paper='Wang et al., "DeepNet: scaling transformers to 1,000 layers", 2022 (arXiv 2203.00555)',
        shapes="any → the same; the branch keeps it",
        start="norm(α·x + F(x)), F's weights made smaller by β",
        initially=_initially,
        finds=(Seen("add", "scaled", 2),),
        when="Post-LN transformers of any depth: the updates stay bounded, and no warm-up has to save the first steps.",
        cost="one product",
    ),
)
