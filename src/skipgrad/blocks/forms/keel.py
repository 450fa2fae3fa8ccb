"""Keel: Post-LN with a highway-style scale on the shortcut and a second norm before the branch."""

from __future__ import annotations

from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears
from skipgrad.core import BadInput


class Keel(nn.Module):
    """norm(α·x + F(inner(x))), α the number of branches in the net: any shape that the branch keeps.

    Chen and Wei, "Post-LayerNorm is back: stable, expressive, and deep" (arXiv 2601.19895).

    Args:
        branch: F.
        norm: the norm over the sum.
        inner: the norm before the branch.
        alpha: α; the paper takes the number of branches.

    Raises:
        BadInput: an alpha that is not positive; in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, norm: nn.Module, inner: nn.Module, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise BadInput("building a Keel residual", received=f"alpha={alpha!r}", todo="give the number of branches")
        self.branch, self.norm, self.inner, self.alpha = branch, norm, inner, float(alpha)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(added(self, self.alpha * x, self.branch(self.inner(x))))


FORMS.register(
    "keel",
    FormEntry(
        title="Keel",
        build=Keel,
        example=lambda: Keel(linears(), nn.LayerNorm(6), nn.LayerNorm(6), alpha=8.0),
        shape=TOKENS,
        formula="y = norm(α·x + F(norm′(x))), α the number of branches",
        paper='Chen and Wei, "Post-LayerNorm is back: stable, expressive, and deep", 2026 (arXiv 2601.19895)',
        shapes="any → the same; the branch keeps it",
        start="norm(α·x + F(norm′(x)))",
        initially=lambda m, x: m.norm(8.0 * x + m.branch(m.inner(x))),  # type: ignore[operator]
        finds=(Seen("add", "scaled", 2),),
        when="Very deep transformers that are to be Post-LN, without an initialisation of their own.",
        cost="a second norm and a product",
    ),
)
