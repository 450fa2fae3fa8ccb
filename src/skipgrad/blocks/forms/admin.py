"""Admin: Post-LN whose shortcuts are weighted by how much the branches before them added."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import added, along
from skipgrad.blocks.forms.registry import FORMS, TOKENS, FormEntry, Seen, linears
from skipgrad.core import BadInput


class Admin(nn.Module):
    """norm(ω ⊙ x + F(x)): any shape that the branch keeps.

    Liu et al., "Understanding the difficulty of training transformers" (arXiv 2004.08249). ω starts at 1; `profile`
    sets that of block i to √(Σ_{j<i} Var F_j), as the paper does before training.

    Args:
        branch: F.
        channels: channels of x.
        norm: the norm over the sum.
        dim: the dimension of the channels.

    Raises:
        BadInput: in the forward, when branch and x do not add.
    """

    def __init__(self, branch: nn.Module, channels: int, norm: nn.Module, dim: int = -1) -> None:
        super().__init__()
        self.branch, self.norm, self.dim = branch, norm, dim
        self.omega = nn.Parameter(torch.ones(channels))

    def no_weight_decay(self) -> set[str]:
        """Names of what weight decay is to leave alone."""
        return {"omega"}

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(added(self, along(self.omega, x, self.dim) * x, self.branch(x)))


@torch.no_grad()
def profile(model: nn.Module, *args: Any, **kwargs: Any) -> list[float]:
    """Runs the model once and sets each `Admin`'s ω from the variances of the branches that ran before it.

    Args:
        model: a fresh model that holds `Admin` blocks, each run once.
        args: of its forward.
        kwargs: of its forward.

    Returns:
        What ω was set to, in order of execution: 1 at the first, then √(Σ_{j<i} Var F_j).

    Raises:
        BadInput: a model without `Admin` blocks.
    """
    blocks = [m for m in model.modules() if isinstance(m, Admin)]
    if not blocks:
        raise BadInput(
            "profiling a model for Admin",
            received=f"a {type(model).__name__} without Admin blocks",
            todo="build it with form=admin",
        )
    total, values = 0.0, []

    def set_omega(block: Admin, args: Any) -> None:
        values.append(total**0.5 if values else 1.0)
        block.omega.fill_(values[-1])

    def add_variance(branch: nn.Module, args: Any, out: Tensor) -> None:
        nonlocal total
        total += float(out.float().var(correction=0))

    hooks = [b.register_forward_pre_hook(set_omega) for b in blocks]
    hooks += [b.branch.register_forward_hook(add_variance) for b in blocks]
    try:
        model(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return values


FORMS.register(
    "admin",
    FormEntry(
        title="Admin",
        build=Admin,
        example=lambda: Admin(linears(), 6, nn.LayerNorm(6)),
        shape=TOKENS,
        formula="y = norm(ω ⊙ x + F(x))",
        paper='Liu et al., "Understanding the difficulty of training transformers", 2020 (arXiv 2004.08249)',
        shapes="any → the same; the branch keeps it",
        start="norm(x + F(x)); after `profile`, norm(ω_i·x + F(x)) with ω_i² the variance that was added before",
        initially=lambda m, x: m.norm(x + m.branch(x)),  # type: ignore[operator]
        finds=(Seen("add", "scaled", 2),),
        when="Deep Post-LN transformers. Call `profile(model, batch)` once before training.",
        cost="one number a channel, and one forward before training",
    ),
)
