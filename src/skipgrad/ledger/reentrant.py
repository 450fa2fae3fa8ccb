"""Reentrant activation checkpointing, where a part of the forward runs without a graph and again inside the backward.

Only that second run has nodes to hook. The function that the checkpoint is to run again is exchanged, as it is handed
to the checkpoint, for a `Rerun`: the same function, recorded on a tape of its own whose calls have the addresses that
they had in the first run. Nothing of torch is touched, and the `Rerun` goes with the graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointFunction

from skipgrad.finder.rules import NO_RULES, Rules
from skipgrad.instrument.calls import Address
from skipgrad.ledger.arrivals import Arrivals, backward_now
from skipgrad.ledger.attach import attach
from skipgrad.ledger.places import Places
from skipgrad.ledger.plan import TapPlan
from skipgrad.ledger.tape import Region, Tape

REFUSED = (
    "its branch and shortcut are on both sides of a reentrant checkpoint, whose two runs cannot be added up; "
    "use_reentrant=False measures it"
)
CHANGED = "a checkpointed part made other calls when it was run again"
_BACKWARD = CheckpointFunction.backward.__code__


@dataclass
class Recorded:
    """A forward that is recorded, for the parts of it that are run again.

    Attributes:
        model: the model itself.
        cut: ``fully_shard`` has cut up its weights.
        rules: the user's own.
        arrivals: where its figures arrive; None until the forward is over, and for good where it is not measured.
    """

    model: nn.Module
    cut: bool = False
    rules: Rules = NO_RULES
    arrivals: Arrivals | None = None

    def again(self, region: Region, run: Callable[..., Any]) -> Callable[..., Any]:
        """Makes, of the function that a checkpoint runs again, the one to run instead."""
        return Rerun(self, region, run)


@dataclass
class Rerun:
    """Stands in for the function that a reentrant checkpoint runs again; what it runs is called a region.

    Attributes:
        forward: the forward that the region is a part of.
        region: what the first run called.
        run: the checkpoint's own function.
    """

    forward: Recorded
    region: Region
    run: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        arrivals = self.forward.arrivals
        if arrivals is None or backward_now() < 0 or not torch.is_grad_enabled():
            return self.run(*args)
        forward = self.forward
        tape = Tape(Places(forward.model, cut=forward.cut), forward.rules, self.region, forward.again)
        arrivals.inside()
        with tape.recording(forward.model, (), {}):
            out = self.run(*args)
        if tape.failed or tape.order != self.region.calls:
            arrivals.refused.update(dict.fromkeys(range(len(arrivals.plan.specs)), CHANGED))
        else:
            arrivals.refused.update(crossing(arrivals.plan, tape))
            attach(arrivals.plan, tape, arrivals)
        return out


def rerunning() -> bool:
    """Whether the call comes from the second run of a reentrant checkpoint, whose own backward is still to come."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is _BACKWARD:
            return True
        frame = frame.f_back
    return False


def crossing(plan: TapPlan, tape: Tape) -> dict[int, str]:
    """Gather → why it is refused, for the gathers whose uses of x are not all in one region, or all outside of any."""
    where: dict[int, set[int]] = {}
    for name, sites in plan.sites.items() if tape.regions else ():
        for number, site in sites.items():
            call = Address(name, number)
            if tape.made(call) is None:
                continue
            region = tape.regions.get(call)
            for wants in (*site.taps.values(), site.results):
                for gather, _ in wants:
                    where.setdefault(gather, set()).add(0 if region is None else region.number)
    return {gather: REFUSED for gather, regions in where.items() if len(regions) > 1}
