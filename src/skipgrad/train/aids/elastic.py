"""The elastic net as a proximal step: exact zeros, behind any optimizer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from skipgrad.core.errors import BadInput


class ElasticNet:
    """After each step of the optimizer, the proximal step of λ₁|w| + λ₂w²: w ← soft(w, ηλ₁) / (1 + 2ηλ₂).

    soft(w, t) = sign(w)·max(|w|−t, 0), η the group's learning rate. Unlike an L1 term in the loss it makes exact zeros,
    and like AdamW's decay it goes past the optimizer's statistics (decoupled). Vectors (biases, norms) are left alone
    unless ``vectors`` is set. A group of the optimizer may have its own ``"l1"`` and ``"l2"``.

    Args:
        optimizer: any of PyTorch's; momentum and adaptive rates are its own affair.
        l1: λ₁, from 0 on.
        l2: λ₂, from 0 on.
        vectors: whether parameters of one dimension are shrunk, too.

    Raises:
        BadInput: a λ below zero.

    Paper: Zou, Hastie, Regularization and variable selection via the elastic net, JRSS B 67 (2005); the proximal step
    as in Parikh, Boyd, Proximal algorithms (2014), 6.5.

    Example:
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)   # doctest: +SKIP
        >>> elastic = ElasticNet(optimizer, l1=1e-4)                # doctest: +SKIP
        >>> elastic.sparsity()                                      # doctest: +SKIP
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, l1: float = 0.0, l2: float = 0.0, *, vectors: bool = False
    ) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            _check(name, value)
        for group in optimizer.param_groups:
            for name in ("l1", "l2"):
                _check(name, group.get(name, 0.0))
        self._optimizer, self._l1, self._l2, self._vectors = optimizer, l1, l2, vectors
        self._handle = optimizer.register_step_post_hook(lambda *_: self.shrink())

    @torch.no_grad()
    def shrink(self) -> None:
        """The proximal step; the optimizer's hook calls it."""
        for group in self._optimizer.param_groups:
            rate = float(group["lr"])
            l1, l2 = rate * group.get("l1", self._l1), 1 + 2 * rate * group.get("l2", self._l2)
            for p in self._in(group):
                if p.grad is None:
                    continue  # the optimizer left it alone
                if l1:
                    p.copy_(torch.sign(p) * (p.abs() - l1).clamp_min_(0))
                if l2 != 1:
                    p.div_(l2)

    def penalty(self) -> float:
        """λ₁Σ|w| + λ₂Σw² as it is now."""
        total = 0.0
        for group in self._optimizer.param_groups:
            l1, l2 = group.get("l1", self._l1), group.get("l2", self._l2)
            for p in self._in(group):
                w = p.detach().double()
                total += float(l1 * w.abs().sum() + l2 * w.square().sum())
        return total

    def sparsity(self) -> float:
        """Share of the weights it shrinks that are exactly zero."""
        parameters = [p for group in self._optimizer.param_groups for p in self._in(group)]
        many = sum(p.numel() for p in parameters)
        return sum(int((p == 0).sum()) for p in parameters) / many if many else 0.0

    def undo(self) -> None:
        """The optimizer steps without it from now on; weights stay as they are."""
        self._handle.remove()

    def _in(self, group: dict[str, Any]) -> list[nn.Parameter]:
        return [p for p in group["params"] if p.requires_grad and (self._vectors or p.dim() > 1)]


def _check(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadInput("adding an elastic net", where=name, received=repr(value), todo="give a number from 0 on")
