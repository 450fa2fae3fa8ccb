"""Two modes around a forward: one drops the branches of chosen skips, one drops each by itself in rows of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from skipgrad.instrument.calls import Address, Follower, Look, Route
from skipgrad.instrument.tensors import mapped, tensors_in


class Dropping(Follower):
    """Puts zeros in the place of some arguments of some calls.

    Args:
        route: the calls.
        at: call → tensor arguments.
    """

    def __init__(self, route: Route, at: Mapping[Address, tuple[int, ...]]) -> None:
        super().__init__(route)
        self.at = at

    def meet(self, address: Address, look: Look, func: Any, args: Any, kwargs: Any) -> Any:
        given = list(tensors_in((args, kwargs)))
        if not look.fits(given, self.at[address]):
            self.broken = True
            return func(*args, **kwargs)
        return with_zeros(func, args, kwargs, self.at[address])


class Appending(Follower):
    """At every planned merge, puts rows behind the batch in which this merge's branch was dropped.

    What comes before a merge is computed once for all later lesions, and a net of n blocks takes about n/2 forwards'
    work for n lesions. It asks of the net that samples do not see each other and that the stream between merges is all
    that carries the batch.

    Args:
        route: the merges.
        at: merge → arguments that are branches.
        rows: samples of the batch.
    """

    def __init__(self, route: Route, at: Mapping[Address, tuple[int, ...]], rows: int) -> None:
        super().__init__(route)
        self.at, self.rows = at, rows
        self.order: list[Address] = []

    def meet(self, address: Address, look: Look, func: Any, args: Any, kwargs: Any) -> Any:
        given = list(tensors_in((args, kwargs)))
        now = self.rows * (1 + len(self.order))
        if not look.fits(given, self.at[address]) or any(t.dim() == 0 or t.shape[0] != now for t in given):
            self.broken = True
            return func(*args, **kwargs)
        base_args, base_kwargs = mapped((args, kwargs), lambda t: t[: self.rows].clone())
        lesioned = with_zeros(func, base_args, base_kwargs, self.at[address])
        out = func(*args, **kwargs)
        self.order.append(address)
        return torch.cat([out, lesioned])


def with_zeros(func: Any, args: Any, kwargs: Any, positions: tuple[int, ...]) -> Any:
    """A call with zeros in the place of some of its tensors, in place where it would write to them."""
    count = -1

    def swap(tensor: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count not in positions:
            return tensor
        if count == 0 and func.__name__.endswith("_"):
            return tensor.zero_()  # whoever holds it must see the sum
        return torch.zeros_like(tensor)

    args, kwargs = mapped((args, kwargs), swap)
    return func(*args, **kwargs)
