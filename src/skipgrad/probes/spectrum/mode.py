"""Puts the cuts into an unmodified model's forward, by counting its calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from skipgrad.core import MeasureError
from skipgrad.instrument.tensors import is_counted, mapped, tensors_in
from skipgrad.probes.spectrum.cuts import Cut, cut
from skipgrad.probes.spectrum.places import Places, Site


class CutMode(TorchFunctionMode):
    """Counts the calls the places name and cuts into the n-th of them; for one forward.

    Attributes:
        cuts: those made.
        fork: where the gradient at the fork arrives.
        fork_of: shape, dtype and device of the fork.
        dead: skips with a branch that no gradient comes back through.
    """

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places
        self.cuts: list[Cut] = []
        self.fork: GradientEdge | None = None
        self.fork_of: Tensor | None = None
        self.dead: list[str] = []
        self._counts: dict[str, int] = {}
        self._turn = 0
        self._broken = False
        self._entered = 0

    # A model that calls itself enters the mode again; calls count once.
    def __enter__(self) -> CutMode:
        self._entered += 1
        if self._entered == 1:
            super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._entered -= 1
        if self._entered == 0:
            super().__exit__(*exc)

    def kept(self) -> bool:
        """Whether the forward's calls were those of the trace."""
        return not self._broken and all(self._counts.get(n, 0) == k for n, k in self.places.expected.items())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", None) or str(func)
        sites = self.places.sites.get(name)
        if sites is None or not is_counted(args, kwargs):
            return func(*args, **kwargs)
        number = self._counts.get(name, 0)
        self._counts[name] = number + 1
        site = sites.get(number)
        if site is None or self._broken:
            return func(*args, **kwargs)
        if site.turn != self._turn:
            self._broken = True
            return func(*args, **kwargs)
        self._turn += 1
        with torch._C.DisableTorchFunction():
            args, kwargs = self._cut(site, args, kwargs)
        return func(*args, **kwargs)

    def _cut(self, site: Site, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given = list(tensors_in((args, kwargs)))
        wanted = {w.pos for w in site.wants} | ({site.fork} if site.fork is not None else set())
        if len(given) != site.given or any(given[pos].dim() != site.ranks[pos] for pos in wanted):
            self._broken = True
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
