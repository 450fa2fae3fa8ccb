"""Reentrant activation checkpointing, where a part of the forward runs without a graph and again inside the backward.

Only that second run can be tapped. During the first run, the checkpoint's own record (the ``ctx`` of its autograd
function) is found on Python's stack, and the function in it that is to be run again is exchanged for a `Rerun`: the
same function, under a mode that goes on counting calls where the first run began. Nothing else of torch is touched,
and the record goes with the graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.checkpoint import CheckpointFunction

from skipgrad.instrument.calls import Address
from skipgrad.ledger.arrivals import Arrivals, backward_now
from skipgrad.ledger.plan import Site, TapPlan

REFUSED = (
    "its branch and shortcut are on both sides of a reentrant checkpoint, whose two runs cannot be added up; "
    "use_reentrant=False measures it"
)
CHANGED = "a checkpointed part made other calls when it was run again"
_FORWARD = CheckpointFunction.forward.__code__
_BACKWARD = CheckpointFunction.backward.__code__


class Counting(Protocol):
    """A mode that counts the calls of a forward, and can go on counting in a part of it that is run again."""

    plan: TapPlan
    sites: dict[str, dict[int, Site]]
    counts: dict[str, int]
    total: int
    broken: bool
    regions: dict[Address, Rerun]
    arrivals: Arrivals | None
    device: torch.device

    def again(self) -> Counting: ...
    def begin(self, arrivals: Arrivals, device: torch.device) -> None: ...
    def end(self) -> bool: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any, /) -> Any: ...


@dataclass
class Rerun:
    """Stands in for the function that a reentrant checkpoint runs again; what it runs is called a region.

    Attributes:
        run: the checkpoint's own function.
        mode: the mode that counted the first run.
        counts: calls before the region, by name.
        total: calls before the region, of all names.
        number: the number of the region in its forward, from 1.
        arrivals: where the figures of the forward arrive.
        device: the model's.
        many: how many calls the region made in the first run; the second run must make as many.
    """

    run: Callable[..., Any]
    mode: Counting
    counts: dict[str, int]
    total: int
    number: int
    arrivals: Arrivals
    device: torch.device
    many: int = 0

    def __call__(self, *args: Any) -> Any:
        if backward_now() < 0 or not torch.is_grad_enabled():
            return self.run(*args)
        mode = self.mode.again()
        mode.begin(self.arrivals, self.device)
        mode.counts.update(self.counts)
        mode.total = self.total
        self.arrivals.inside()
        try:
            with mode:
                out = self.run(*args)
        finally:
            kept = not mode.broken and mode.total - self.total == self.many
            refused = crossing(mode)
            mode.end()
        if not kept:
            refused = dict.fromkeys(range(len(mode.plan.specs)), CHANGED)
        self.arrivals.refused.update(refused)
        return out


def region_now(mode: Counting) -> Rerun | None:
    """The outermost reentrant checkpoint whose first run is on; None when gradients are off for another reason."""
    # The outermost, because inner checkpoints run again as a part of it.
    found: Any = None
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _FORWARD:
            found = frame.f_locals["ctx"]
        frame = frame.f_back
    if found is None or mode.arrivals is None:
        return None
    mine = found.run_function
    while isinstance(mine, Rerun):  # several watches have one each, inside one another
        if mine.mode is mode:
            return mine
        mine = mine.run
    number = 1 + max((r.number for r in mode.regions.values()), default=0)
    found.run_function = Rerun(
        found.run_function, mode, dict(mode.counts), mode.total, number, mode.arrivals, mode.device
    )
    return found.run_function


def rerunning() -> bool:
    """Whether the call comes from the second run of a reentrant checkpoint, whose own backward is still to come."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _BACKWARD:
            return True
        frame = frame.f_back
    return False


def crossing(mode: Counting) -> dict[int, str]:
    """Gather → why it is refused, for the gathers whose uses of x are not all in one region, or all outside of any."""
    where: dict[int, set[int]] = {}
    for name, sites in mode.sites.items():
        for number, site in sites.items():
            region = mode.regions.get(Address(name, number))
            for wants in (*site.taps.values(), site.results):
                for gather, _ in wants:
                    where.setdefault(gather, set()).add(0 if region is None else region.number)
    return {gather: REFUSED for gather, regions in where.items() if len(regions) > 1}
