"""Adds up what one use of x sends back along several edges of autograd's graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from skipgrad.ledger.plan import Wants


class Taker(Protocol):
    """Where gradients arrive."""

    joined: list[Joined]

    def backward(self) -> int: ...
    def part(self) -> Any: ...
    def take(self, found: Sequence[tuple[Tensor, Wants]]) -> None: ...


class Joined:
    """One use of x.

    Args:
        arrivals: takes the sum.
        wants: what is wanted of it.
        many: how many edges lead to x.
    """

    def __init__(self, arrivals: Taker, wants: Wants, many: int) -> None:
        self._arrivals, self._wants, self._many = arrivals, wants, many
        self._came: dict[int, list[Tensor]] = {}

    def open(self) -> None:
        """From here on it is not known how many will come in a backward: they are added up at its end."""
        self._many = 0

    def take(self, grad: Tensor) -> None:
        """Takes in what one edge brought."""
        with torch.no_grad():
            grad = grad.detach()
            number = self._arrivals.backward()
            came = self._came.get(number)
            if came is None:
                if self._arrivals.part() is None:  # not a backward of the training
                    return
                came = self._came[number] = []
                self._arrivals.joined.append(self)
            came.append(grad)
            if len(came) == self._many:
                self.finish(number)

    def finish(self, number: int) -> None:
        """Hands on what has come in a backward."""
        came = self._came.pop(number, None)
        if came:
            whole = came[0] if len(came) == 1 else torch.stack([g.to(came[0].dtype) for g in came]).sum(0)
            self._arrivals.take(((whole, self._wants),))
