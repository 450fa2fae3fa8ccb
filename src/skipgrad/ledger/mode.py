"""Puts the taps of a plan into the forward of a compiled model: counts the calls, and taps those in the plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._guards import CompileContext
from torch.overrides import TorchFunctionMode

from skipgrad.instrument.tensors import is_counted
from skipgrad.ledger.arrivals import Arrivals
from skipgrad.ledger.plan import Site, TapPlan
from skipgrad.ledger.slot_taps import SlotTaps
from skipgrad.ledger.slots import Slots


class TapMode(TorchFunctionMode):
    """Counts the calls the plan names and taps the n-th of them.

    One object serves all forwards of a watch, so that a compiled model keeps its graph.

    Args:
        plan: what to tap.

    Attributes:
        counts: calls so far in this forward, by function name.
        total: calls so far of any of those names.
        broken: whether this forward made other calls than the trace. Nothing more is tapped then, and its figures are
            dropped.
        paused: for all modes at once: calls are neither counted nor tapped, as a watch is tracing inside a forward.
    """

    paused = False

    def __init__(self, plan: TapPlan) -> None:
        super().__init__()
        self.plan = plan
        self.sites = plan.sites
        self.counts: dict[str, int] = {}
        self.total = 0
        self.broken = False
        self.taps: SlotTaps | None = None

    def begin(self, arrivals: Arrivals, device: torch.device) -> None:
        """Makes ready for a forward."""
        self.taps = SlotTaps(self.plan, Slots(arrivals, device, fixed=True))
        self.total = 0
        self.broken = False
        self.counts.clear()

    def end(self) -> bool:
        """Ends the forward and lets go of it; whether its calls were those of the trace."""
        self.taps = None
        return not self.broken and self.plan.route.kept(self.counts)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        sites = self.sites.get(name)
        if sites is None or TapMode.paused or not is_counted(args, kwargs):
            return func(*args, **kwargs)
        if not torch.compiler.is_compiling() and _inside_compiler():
            return func(*args, **kwargs)
        number = self.counts.get(name, 0)
        before = self.total
        self.counts[name] = number + 1
        self.total = before + 1
        site = sites.get(number)
        if site is None or self.broken:
            return func(*args, **kwargs)
        # Calls of different names may have changed places though each name's count agrees; the count over all tells.
        if site.look.before != before:
            self.broken = True
            return func(*args, **kwargs)
        taps = self.taps
        assert taps is not None
        # The calls we make ourselves must not be counted by another watch that may be around this one.
        if site.wanted or site.squares:
            with torch._C.DisableTorchFunction():
                args, kwargs = self._arguments(taps, site, args, kwargs)
        out = func(*args, **kwargs)
        if self.broken or (site.wanted_of_result is None and not site.wanted):
            return out
        with torch._C.DisableTorchFunction():
            tapped = taps.result(site, out)
        if tapped is None:
            self.broken = True
            return out
        return tapped

    def _arguments(self, taps: SlotTaps, site: Site, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given: list[Tensor] = []
        _collect(args, given)
        _collect(kwargs, given)
        new: list[Tensor] | None = None
        if site.look.fits(given, site.looked_at):
            new = taps.arguments(site, given)
        if new is None:
            self.broken = True
            return args, kwargs
        if new is given:
            return args, kwargs
        return _replaced(args, new, [0]), _replaced(kwargs, new, [_number(args)])


def _inside_compiler() -> bool:
    """Whether a call is not the model's own: the compiler makes it while it compiles, or compiled code as it runs.

    Compiled code runs inside one autograd function, where gradients are off; that is how its calls are told.
    """
    return not torch.is_grad_enabled() or CompileContext.current_compile_id() is not None


def _collect(value: Any, into: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        into.append(value)
    elif isinstance(value, (list, tuple)):
        for v in value:
            _collect(v, into)
    elif isinstance(value, dict):
        for v in value.values():
            _collect(v, into)


def _number(value: Any) -> int:
    found: list[Tensor] = []
    _collect(value, found)
    return len(found)


def _replaced(value: Any, new: list[Tensor], at: list[int]) -> Any:
    """The same nesting with its tensors replaced in order, from ``new[at[0]]`` on."""
    if isinstance(value, Tensor):  # `at` is a list so that the recursion shares one position
        tensor = new[at[0]]
        at[0] += 1
        return tensor
    if isinstance(value, list):
        return [_replaced(v, new, at) for v in value]
    if isinstance(value, tuple):
        return tuple(_replaced(v, new, at) for v in value)
    if isinstance(value, dict):
        return {k: _replaced(v, new, at) for k, v in value.items()}
    return value
