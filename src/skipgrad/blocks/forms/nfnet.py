"""The normalizer-free residual: the branch sees x at unit variance, and its part of the sum is known."""

from __future__ import annotations

from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, through
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears
from skipgrad.core import BadInput


class NFNet(nn.Module):
    """x + α·F(x / β), where β is the standard deviation expected of x: any shape that the branch keeps.

    Brock, De, Smith and Simonyan, "High-performance large-scale image recognition without normalization" (arXiv
    2102.06171). With branches that keep the variance, β² = 1 + α²·(blocks before this one): see `beta_at`.

    Args:
        branch: F.
        alpha: how much the branch adds.
        beta: the standard deviation expected of x; positive.
        shortcut: what x goes through on its way past the branch, where the shape changes; None for the identity.

    Raises:
        BadInput: a beta that is not positive; in the forward, when branch and x do not add.
    """

    def __init__(
        self, branch: nn.Module, alpha: float = 0.2, beta: float = 1.0, *, shortcut: nn.Module | None = None
    ) -> None:
        super().__init__()
        if not beta > 0:
            raise BadInput("building an NFNet residual", received=f"beta={beta!r}", todo="give a positive number")
        self.branch, self.alpha, self.beta, self.shortcut = branch, alpha, beta, shortcut

    @staticmethod
    def beta_at(block: int, alpha: float = 0.2) -> float:
        """β of the block with this number, from 0, in a stage whose input has unit variance."""
        return (1 + block * alpha**2) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return added(self, through(self.shortcut, x), self.alpha * self.branch(x / self.beta))


FORMS.register(
    "nfnet",
    FormEntry(
        title="NFNet residual",
        build=NFNet,
        example=lambda: NFNet(linears(), alpha=0.2, beta=2.0),
        shape=FEATURES,
        formula="y = x + α·F(x / β)",
        paper='Brock et al., "High-performance image recognition without normalization", 2021 (arXiv 2102.06171)',
        shapes="any → the same; the branch keeps it",
        start="x + α·F(x / β)",
        initially=lambda m, x: x + 0.2 * m.branch(x / 2.0),  # type: ignore[operator]
        finds=(Seen("add", "identity", 2),),
        when="Nets without norms whose weights are standardised, so that β is known beforehand.",
        cost="two products",
    ),
)
