"""Puts cuts into the forward of an unmodified model by following its calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from skipgrad.core import MeasureError
from skipgrad.instrument.calls import Address, Follower, Look
from skipgrad.instrument.tensors import mapped, tensors_in
from skipgrad.probes.spectrum.cuts import Cut, cut
from skipgrad.probes.spectrum.places import CutPlaces, CutSite


class CutMode(Follower):
    """Follows the calls of one forward, and puts cuts on the arguments that the places name.

    Attributes:
        cuts: the cuts made so far.
        fork: the place in autograd's graph at which the gradient at the fork arrives.
        fork_of: the fork itself, detached; for its shape, dtype and device.
        dead: skips with a branch through which no gradient comes back.
    """

    def __init__(self, places: CutPlaces) -> None:
        super().__init__(places.route)
        self.places = places
        self.cuts: list[Cut] = []
        self.fork: GradientEdge | None = None
        self.fork_of: Tensor | None = None
        self.dead: list[str] = []

    def meet(self, address: Address, look: Look, func: Any, args: Any, kwargs: Any) -> Any:
        """Makes the call with cuts on its arguments."""
        with torch._C.DisableTorchFunction():
            args, kwargs = self._cut(self.places.sites[address], look, args, kwargs)
        return func(*args, **kwargs)

    def _cut(self, site: CutSite, look: Look, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given = list(tensors_in((args, kwargs)))
        wanted = {w.pos for w in site.wants} | ({site.fork} if site.fork is not None else set())
        if not look.fits(given, wanted):
            self.broken = True
            return args, kwargs
        if site.fork is not None:
            self._take_down(given[site.fork])
        new = list(given)
        for want in site.wants:
            if not torch.is_grad_enabled():
                raise MeasureError(
                    "measuring the path spectrum",
                    where=f"skip {want.skip!r}",
                    received="a merge that runs with gradients off (no_grad, or a reentrant checkpoint)",
                    todo="checkpoint with use_reentrant=False; or leave the skip out of the graph",
                )
            y = given[want.pos]
            if not y.requires_grad:
                self.dead.append(want.skip)
                continue
            new[want.pos], made = cut(y, want.skip, want.option, inplace=want.inplace)
            self.cuts.append(made)
        replaced = iter(new)
        return mapped((args, kwargs), lambda _: next(replaced))

    def _take_down(self, x: Tensor) -> None:
        if not x.requires_grad:
            raise MeasureError(
                "measuring the path spectrum",
                where=f"the fork of skip {self.places.at!r}",
                received="a tensor that requires no gradient: all that comes before it is frozen",
                todo="unfreeze a weight before it, or choose a later skip with at=",
            )
        if x.dtype.is_complex:
            raise MeasureError(
                "measuring the path spectrum",
                where=f"the fork of skip {self.places.at!r}",
                received="complex tensors, of which a share is not a number",
                todo="choose another skip with at=",
            )
        self.fork, self.fork_of = get_gradient_edge(x), x.detach()
