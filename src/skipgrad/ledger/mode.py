"""Puts the taps of a plan into the forward of an unmodified model: counts the calls, and taps those in the plan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._guards import CompileContext
from torch.overrides import TorchFunctionMode

from skipgrad.instrument.calls import Address
from skipgrad.instrument.tensors import is_counted
from skipgrad.ledger.arrivals import Arrivals
from skipgrad.ledger.learned import Learned
from skipgrad.ledger.node_hooks import NodeHooks
from skipgrad.ledger.plan import Site, TapPlan
from skipgrad.ledger.reentrant import Rerun, crossing, region_now
from skipgrad.ledger.slot_taps import SlotTaps
from skipgrad.ledger.slots import Slots


class TapMode(TorchFunctionMode):
    """Counts the calls the plan names and taps the n-th of them.

    One object serves all forwards of a watch, so that a compiled model keeps its graph.

    Args:
        plan: what to tap.
        compiled: the model is called through ``torch.compile``.

    Attributes:
        counts: calls so far in this forward, by function name.
        total: calls so far of any of those names.
        regions: call → the reentrant checkpoint it ran in, which runs it again in the backward.
        off: whether a fork was met with gradients off and outside of a reentrant checkpoint.
        broken: whether this forward made other calls than the trace. Nothing more is tapped then, and its figures are
            dropped.
        unhooked: whether this forward could not be measured by hooks; the next one can be, by other taps.
        paused: for all modes at once: calls are neither counted nor tapped, as a watch is tracing inside a forward.
    """

    paused = False

    def __init__(self, plan: TapPlan, *, compiled: bool = False) -> None:
        super().__init__()
        self.plan = plan
        self.compiled = compiled
        self.sites = plan.sites
        self.counts: dict[str, int] = {}
        self.total = 0
        self.regions: dict[Address, Rerun] = {}
        self.off = False
        self.broken = self.unhooked = False
        self.taps: NodeHooks | SlotTaps | None = None
        self.arrivals: Arrivals | None = None
        self.learned = Learned()
        self.device = torch.device("cpu")

    def begin(self, arrivals: Arrivals, device: torch.device) -> None:
        """Makes ready for a forward."""
        self.arrivals = arrivals
        self.device = device
        if self.compiled:
            self.taps = SlotTaps(self.plan, Slots(arrivals, device, fixed=True))
        else:
            arrivals.learned = self.learned
            self.taps = NodeHooks(self.plan, arrivals, self.learned)
        self.total = 0
        self.broken = self.unhooked = self.off = False
        self.counts.clear()
        self.regions.clear()

    def again(self) -> TapMode:
        """Another mode with the same plan, for a part of the forward that is run again."""
        other = TapMode(self.plan, compiled=self.compiled)
        other.learned = self.learned
        return other

    def end(self) -> bool:
        """Ends the forward and lets go of it; whether its calls were those of the trace."""
        if self.regions and self.arrivals is not None:
            self.arrivals.refused.update(crossing(self))
        self.arrivals = None
        self.taps = None
        self.regions.clear()
        return not self.broken and self.plan.route.kept(self.counts)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        sites = self.sites.get(name)
        if sites is None or TapMode.paused or not is_counted(args, kwargs):
            return func(*args, **kwargs)
        if self.compiled and not torch.compiler.is_compiling() and _inside_compiler():
            return func(*args, **kwargs)
        number = self.counts.get(name, 0)
        before = self.total
        if not self.compiled and not torch.compiler.is_compiling() and not torch.is_grad_enabled():
            return self._untapped(name, number, func, args, kwargs)
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
        if torch.compiler.is_compiling() and not self.compiled:
            self.compiled = self.broken = self.unhooked = True  # a compiled function in an eager model
            return func(*args, **kwargs)
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
            self.broken, self.unhooked = True, taps.failed
            return out
        return tapped

    def _untapped(self, name: str, number: int, func: Any, args: Any, kwargs: Any) -> Any:
        """A call without a graph: counted, and tapped only when a reentrant checkpoint makes it again."""
        region = region_now(self)
        site = self.sites[name].get(number)
        if site is not None:
            self.broken = self.broken or site.look.before != self.total
            self.off = self.off or (region is None and bool(site.taps))
            if region is not None:
                self.regions[Address(name, number)] = region
        if region is not None:
            region.many += 1
        self.counts[name] = number + 1
        self.total += 1
        return func(*args, **kwargs)

    def _arguments(self, taps: NodeHooks | SlotTaps, site: Site, args: Any, kwargs: Any) -> tuple[Any, Any]:
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
