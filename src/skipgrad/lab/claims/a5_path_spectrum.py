"""A4, A5: the gradient is the sum over all paths, and its share by path length can be computed exactly."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from skipgrad.core.units import number
from skipgrad.finder import find
from skipgrad.instrument.seeding import kept_random, seed_all
from skipgrad.lab.claim import Claim, Figure, Setting, Values, middle
from skipgrad.lab.picture import lines
from skipgrad.lab.registry import CLAIMS
from skipgrad.probes import path_spectrum

BLOCKS, WIDTH, BOUND = 8, 6, 1e-9


class Block(nn.Module):
    """x + F(x), F of two linear layers around a tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x)


def brute_force(blocks: nn.Sequential, x: Tensor, g: Tensor) -> list[Tensor]:
    """The gradient at x by path length: one product of Jacobians for each of the 2ⁿ paths, summed by their length."""
    jacobians = []
    h = x
    for block in blocks:
        assert isinstance(block, Block)
        jacobians.append([torch.autograd.functional.jacobian(block.f, row) for row in h])
        h = block(h).detach()
    sums = [torch.zeros_like(x) for _ in range(len(blocks) + 1)]
    for path in product((False, True), repeat=len(blocks)):
        rows = []
        for k in range(len(x)):
            v = g[k]
            for taken, jacobian in zip(reversed(path), reversed(jacobians), strict=True):
                v = jacobian[k].T @ v if taken else v
            rows.append(v)
        sums[sum(path)] = sums[sum(path)] + torch.stack(rows)
    return sums


def one_seed(setting: Setting) -> Values:
    """The spectrum of a chain of blocks against all of its paths."""
    with kept_random(torch.device("cpu")):
        seed_all(setting.seed)
        blocks = nn.Sequential(*(Block() for _ in range(BLOCKS))).double()
        x, g = torch.randn(2, WIDTH, dtype=torch.float64), torch.randn(2, WIDTH, dtype=torch.float64)
    found = path_spectrum(blocks, find(blocks, x), (x,), lambda out: (out * g).sum())
    setting.say(f"{2**BLOCKS} paths")
    truth = brute_force(blocks, x, g)
    errors = [abs(n - float(t.norm())) / float(t.norm()) for n, t in zip(found.norms, truth, strict=True)]
    total = float(torch.stack(truth).sum(0).norm())
    return {
        "error of a length's norm": max(errors),
        "residual of the sum": found.residual,
        "error of the whole": abs(found.grad_norm - total) / total,
        **{f"share at length {k}": s for k, s in zip(found.lengths, found.shares, strict=True)},
    }


def judge(values: Values) -> bool:
    """All three within the bound."""
    return max(values[n] for n in ("error of a length's norm", "residual of the sum", "error of the whole")) <= BOUND


def sentence(figures: Sequence[Figure]) -> str:
    """The errors."""
    worst = max(f.values["error of a length's norm"] for f in figures)
    return (
        f"The shares of {BLOCKS + 1} path lengths agree with the sum over all {2**BLOCKS} paths to {number(worst)} "
        "and add "
        f"up to autograd's gradient to {number(middle(figures, 'residual of the sum'))}."
    )


CLAIM = Claim(
    id="A5",
    title="The gradient is the sum over all paths",
    statement="The gradient at a fork is the sum over 2ⁿ paths through or past each branch; its part by path "
    "length is a "
    "coefficient of ∏(S + t·J)ᵀg and needs no sampling.",
    anchor="algebra; sampled by Veit et al. 2016",
    criterion=f"norm of each length, sum of the lengths and whole gradient within {BOUND:g} of brute force and "
    "autograd",
    refutes="a length whose share differs",
    setting=f"{BLOCKS} blocks of width {WIDTH}, float64",
    one_seed=one_seed,
    judge=judge,
    sentence=sentence,
    picture=lambda figures: lines(
        figures, ["share at length "], "branches on the path", "share of the gradient, signed"
    ),
    topic="gradient",
    duration="2 s",
    not_on_model="D4 does it on yours; brute force has 2ⁿ paths",
)
CLAIMS.register(CLAIM.id, CLAIM, rank=5)
