"""Nets that draw what they run: blocks in any order, left out, repeated, of shared weights; and the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

Step = tuple[str, int]  # how a block is run, and which
HOW = ("plain", "written", "twice", "gated", "norm", "shared", "checkpoint")


class _Tanh(torch.autograd.Function):
    """A branch that autograd's own graph sees as one node."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        out = x.tanh()
        ctx.save_for_backward(out)  # type: ignore[attr-defined]
        return out

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
        (out,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * (1 - out * out)


@dataclass
class Routes(nn.Module):
    """Blocks without a module of their own: their weights lie in one list, and one line runs them all."""

    many: int = 4
    width: int = 5
    route: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(self.width, self.width).double()
        self.blocks = nn.ModuleList(nn.Linear(self.width, self.width).double() for _ in range(self.many))
        self.weights = nn.ParameterList(
            torch.randn(self.width, self.width, dtype=torch.float64) / 3 for _ in range(self.many)
        )
        self.shared = nn.Linear(self.width, self.width).double()

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def branch(self, how: str, k: int, x: Tensor) -> Tensor:
        if how == "plain":
            return torch.tanh(self.blocks[k](x))
        if how == "written":
            return torch.tanh(x @ self.weights[k])
        if how == "twice":
            return self.blocks[k](torch.tanh(self.blocks[k](x)))
        if how == "gated":
            return torch.tanh(self.blocks[k](x)) * torch.sigmoid(self.shared(x))
        if how == "norm":
            return self.blocks[k](_Tanh.apply(x))  # type: ignore[arg-type]
        if how == "shared":
            return torch.tanh(self.shared(x))
        return torch.utils.checkpoint.checkpoint(lambda t: torch.tanh(self.blocks[k](t)), x, use_reentrant=k % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, lambda t: (t, t))

    def run(self, x: Tensor, fork: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        x = self.stem(x)
        for how, k in self.route:
            skip, into = fork(x)
            x = skip + self.branch(how, k, into)
        return x

    def truth(self, x: Tensor) -> list[tuple[float, float, float]]:
        """(‖S‖, ‖B‖, ‖S+B‖) of each block that runs, in order, by copies of each fork."""
        forks: list[Tensor] = []

        def fork(t: Tensor) -> tuple[Tensor, Tensor]:
            both = t * 1, t * 1
            forks.extend(both)
            return both

        loss = self.run(x, fork).pow(2).sum()
        for t in forks:
            t.retain_grad()
        loss.backward()
        grads = [t.grad for t in forks]
        assert all(g is not None for g in grads)
        self.zero_grad()
        return [
            (float(s.norm()), float(b.norm()), float((s + b).norm()))  # type: ignore[union-attr, operator]
            for s, b in zip(grads[::2], grads[1::2], strict=True)
        ]

    def place(self, step: Step) -> tuple[str, ...]:
        """What the weights of a block are called: what it *is*."""
        how, k = step
        if how == "written":
            return (f"weights.{k}",)
        if how == "shared":
            return ("shared.weight",)
        return (f"blocks.{k}.weight", "shared.weight") if how == "gated" else (f"blocks.{k}.weight",)


def routes(many: int) -> st.SearchStrategy[list[Step]]:
    """A route: blocks in any order, some left out, some several times."""
    return st.lists(st.tuples(st.sampled_from(HOW), st.integers(0, many - 1)), max_size=6)
