"""The reversible residual: its input is computed from its output, so that nothing has to be kept for the backward."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from skipgrad.blocks.forms._merging import where
from skipgrad.blocks.forms._recompute import Reversed
from skipgrad.blocks.forms.registry import FEATURES, FORMS, FormEntry, Seen, linears
from skipgrad.core import BadInput
from skipgrad.instrument.calls import followed


class Reversible(nn.Module):
    """(x₁, x₂) = halves of x; y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁); y = cat(y₁, y₂): any shape whose channels are even.

    Gomez et al., "The reversible residual network" (arXiv 1707.04585). In the backward x₂ = y₂ − G(y₁) and x₁ = y₁ −
    F(x₂) are computed again, with the random numbers and the autocast of the forward; running statistics of batch
    norms are left alone meanwhile. A run of blocks keeps one activation in all as a `ReversibleSequence`.

    A forward that skipgrad traces or watches keeps its activations, as S and B are read off them; so does one without
    gradient, of which there is nothing to keep.

    Args:
        f: F, from half the channels to half the channels.
        g: G, likewise.
        dim: the dimension of the channels.

    Raises:
        BadInput: in the forward, an odd number of channels, or a branch that changes its shape or writes into its
            input.
    """

    def __init__(self, f: nn.Module, g: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.f, self.g, self.dim = f, g, dim

    def forward(self, x: Tensor) -> Tensor:
        return run_blocks([self], x)

    def pair(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """(y₁, y₂) of (x₁, x₂)."""
        y1 = x1 + self.apply_branch("f", x2)
        return y1, x2 + self.apply_branch("g", y1)

    def apply_branch(self, name: str, x: Tensor) -> Tensor:
        """F(x) or G(x), held to what a reversible branch may do."""
        counted = not torch.compiler.is_compiling() and not x.is_inference()
        before = x._version if counted else 0
        out = getattr(self, name)(x)
        wrong = ""
        if out.shape != x.shape:
            wrong = f"it was given {tuple(x.shape)} and returned {tuple(out.shape)}"
        elif counted and x._version != before:
            wrong = "it writes into its input, from which the other half is computed again"
        if wrong:
            raise BadInput(
                "running a reversible block",
                where=where(self, name),
                received=wrong,
                todo="let the branch keep the shape and leave its input as it is: no inplace=True in its first layer",
            )
        return out


class ReversibleSequence(nn.Module):
    """Reversible blocks in a row, which keep the output of the last one only: memory does not grow with depth.

    Args:
        blocks: the blocks; all split along the same dimension.
    """

    def __init__(self, blocks: Iterable[Reversible]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if not len(self.blocks) or len({b.dim for b in self.blocks}) > 1:  # type: ignore[union-attr]
            raise BadInput(
                "building a sequence of reversible blocks",
                received=f"{len(self.blocks)} blocks, split along {sorted({b.dim for b in self.blocks})}",  # type: ignore
                todo="give at least one, all with the same dim",
            )

    def forward(self, x: Tensor) -> Tensor:
        return run_blocks(list(self.blocks), x)  # type: ignore[arg-type]


def halves(form: Reversible, x: Tensor) -> tuple[Tensor, Tensor]:
    """The two halves of x."""
    dim = form.dim
    if x.shape[dim] % 2:
        raise BadInput(
            "splitting the input of a reversible block",
            where=type(form).__name__,
            received=f"shape {tuple(x.shape)}, of which dimension {dim} is odd",
            todo="give it an even number of channels, or another dim",
        )
    one, other = x.chunk(2, dim)
    return one, other


def run_blocks(blocks: list[Reversible], x: Tensor) -> Tensor:
    """The blocks one after the other: saving memory where there is a gradient to come, unless somebody looks."""
    if torch.is_grad_enabled():
        return _saving(blocks, x)  # pyright: ignore[reportCallIssue]
    return _plainly(blocks, x)


@torch.compiler.disable
def _saving(blocks: list[Reversible], x: Tensor) -> Tensor:
    # A weight used in two blocks is one input of the function.
    params = list({id(p): p for b in blocks for p in b.parameters() if p.requires_grad}.values())
    if followed() or not (params or x.requires_grad):
        return _plainly(blocks, x)
    y1, y2 = Reversed.apply(blocks, *halves(blocks[0], x), *params)  # type: ignore[misc]
    return torch.cat([y1, y2], blocks[0].dim)


def _plainly(blocks: list[Reversible], x: Tensor) -> Tensor:
    x1, x2 = halves(blocks[0], x)
    for block in blocks:
        x1, x2 = block.pair(x1, x2)
    return torch.cat([x1, x2], blocks[0].dim)


def _initially(m: nn.Module, x: Tensor) -> Tensor:
    x1, x2 = x.chunk(2, 1)
    y1 = x1 + m.f(x2)  # type: ignore[operator]
    return torch.cat([y1, x2 + m.g(y1)], 1)  # type: ignore[operator]


FORMS.register(
    "reversible",
    FormEntry(
        title="Reversible residual",
        build=Reversible,
        example=lambda: Reversible(linears(3), linears(3)),
        shape=FEATURES,
        formula="y₁ = x₁ + F(x₂), y₂ = x₂ + G(y₁)",
        paper='Gomez et al., "The reversible residual network", 2017 (arXiv 1707.04585)',
        shapes="(N, C, …) → the same, C even; the branches keep half of it",
        start="cat(x₁ + F(x₂), x₂ + G(y₁))",
        initially=_initially,
        finds=(Seen("add", "slice", 2), Seen("add", "identity", 4), Seen("concat", "identity", 2)),
        when="Depth that does not fit into memory. Put the blocks into one `ReversibleSequence`; keep "
        "downsampling outside.",
        cost="each branch is computed twice; memory of one activation for any depth",
        sees="y₂ = x₂ + G(y₁) forks at x₂, which F has read as well. The closing concatenation is one too: y₂ is "
        "y₁ and what G makes of it.",
        breaks="around each block or sequence: the backward runs blocks anew. Compile the branches themselves "
        "(`block.f.compile()`).",
    ),
)
