"""Puts taps around calls, for compiled models: the figures arrive as the gradient of a slot.

The slot is an ordinary leaf tensor and the taps are ops, so that a compiled graph can hold them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skipgrad.instrument.tensors import first_of, with_first
from skipgrad.ledger.plan import Site, TapPlan
from skipgrad.ledger.slots import Slots
from skipgrad.ledger.source_gather import SourceGather
from skipgrad.ledger.statistics import Square, mean_square
from skipgrad.ledger.taps import Gather, Out, Tap


class SlotTaps:
    """Puts the taps of one forward around its calls.

    Args:
        plan: what to tap.
        slots: the leaves whose gradients are the figures.
    """

    def __init__(self, plan: TapPlan, slots: Slots) -> None:
        self.plan = plan
        self.slots = slots
        self._zs: dict[tuple[int, int], Tensor] = {}
        self._squares: dict[int, Square] = {}

    def arguments(self, site: Site, given: list[Tensor]) -> list[Tensor] | None:
        """The tensors to call with; None when this cannot be the call the site was planned for."""
        for row, pos in site.squares:
            square = mean_square(given[pos], self.plan.dtype)
            before = self._squares.get(row)
            self._squares[row] = square if before is None else before + square
        new = list(given)
        for pos, wants in site.taps.items():
            tapped = self._tap(given[pos], wants)
            if tapped is None:
                return None
            site.put(new, pos, tapped, given)
        for row, pos in site.outs:
            if pos >= 0:
                new[pos] = self._out(row, new[pos])
        return new

    def result(self, site: Site, out: Any) -> Any:
        """What the call returned, tapped; None when this cannot be the call the site was planned for."""
        if not site.layers and not site.results and all(pos >= 0 for _, pos in site.outs):
            return out
        y = first_of(out)
        if y is None or not y.requires_grad:
            return out
        for layer in site.layers:
            y = Out.apply(y, self.slots.layer(layer), None)  # type: ignore[assignment]
        for row, pos in site.outs:
            if pos < 0:
                y = self._out(row, y)
        tapped = self._tap(y, site.results) if site.results else y
        return None if tapped is None else with_first(out, tapped)

    def _tap(self, x: Tensor, wants: list[tuple[int, int]]) -> Tensor | None:
        if not x.requires_grad:
            return x
        zs = [self._z(gather, z, x) for gather, z in wants]
        if not torch.compiler.is_compiling() and any(z.shape != x.shape for z in zs):
            return None  # another shape than at the fork's first use, so that this is not the call of the trace
        return Tap.apply(x, *zs)  # type: ignore[no-any-return]

    def _z(self, gather: int, z: int, x: Tensor) -> Tensor:
        """The z of one use of x. The first use makes the gather, with a z for each use; later ones find theirs here."""
        if (gather, z) not in self._zs:
            if gather < 0:
                zs = SourceGather.apply(self.slots.sources[~gather], x, self.plan.groups[~gather])
            else:
                zs = Gather.apply(self.slots.gather(gather), x, self.plan.specs[gather])
            for k, made in enumerate(zs):
                self._zs[(gather, k)] = made
        # Taken out here because whatever stayed in the dictionary would become a result of the compiled graph.
        return self._zs.pop((gather, z))

    def _out(self, row: int, y: Tensor) -> Tensor:
        if not y.requires_grad:
            return y
        return Out.apply(y, self.slots.out(row), self._squares.pop(row, None))  # type: ignore[no-any-return]
