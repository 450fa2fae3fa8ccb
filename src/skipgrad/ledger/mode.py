"""Puts the taps of a plan into an unmodified model's forward, by counting its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._guards import CompileContext
from torch.overrides import TorchFunctionMode

from skipgrad.ledger.plan import Plan, Site
from skipgrad.ledger.reentrant import Rerun, crossing, region_now
from skipgrad.ledger.slots import Slots
from skipgrad.ledger.source_gather import SourceGather
from skipgrad.ledger.taps import Gather, Out, Tap, mean_square


class TapMode(TorchFunctionMode):
    """Counts the calls the plan names and taps the n-th of them.

    One object serves all forwards of a watch, so that a compiled model keeps its graph.

    Args:
        plan: what to tap.
        compiled: the model is called through ``torch.compile``.

    Attributes:
        counts: calls so far in this forward, by function name.
        total: calls so far of any of those names.
        regions: calls that ran inside a reentrant checkpoint, which is run again in the backward.
        off: a fork was met with gradients off, for another reason.
        broken: this forward's calls are not the trace's; nothing more is tapped, and its figures are dropped.
        paused: for all modes: calls are neither counted nor tapped, as another watch is tracing inside this forward.
    """

    paused = False

    def __init__(self, plan: Plan, *, compiled: bool = False) -> None:
        super().__init__()
        self.plan = plan
        self.compiled = compiled
        self.sites = plan.sites
        self.counts: dict[str, int] = {}
        self.total = 0
        self.regions: dict[tuple[str, int], Rerun] = {}
        self.off = False
        self.broken = False
        self.slots: Slots | None = None
        self._zs: dict[tuple[int, int], Tensor] = {}
        self._squares: dict[int, Tensor] = {}

    def begin(self, slots: Slots) -> None:
        """Makes ready for a forward."""
        self.slots = slots
        self.total = 0
        self.broken = False
        self.off = False
        self.counts.clear()
        self.regions.clear()
        self._zs.clear()
        self._squares.clear()

    def again(self) -> TapMode:
        """Another of the same plan, for a part that is run again."""
        return TapMode(self.plan, compiled=self.compiled)

    def end(self) -> bool:
        """Forgets the tensors of the forward; whether its calls were those of the trace."""
        if self.regions and self.slots is not None:
            self.slots.arrivals.refused.update(crossing(self))
        self.slots = None
        self.regions.clear()
        self._zs.clear()
        self._squares.clear()
        return not self.broken and all(self.counts.get(name, 0) == n for name, n in self.plan.expected.items())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        sites = self.sites.get(name)
        if sites is None or TapMode.paused:
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
        if site.before != before:
            self.broken = True
            return func(*args, **kwargs)
        if site.taps or site.squares or any(pos >= 0 for _, pos in site.outs):
            # Our own calls are nobody's to count: another watch may be around this one.
            with torch._C.DisableTorchFunction():
                args, kwargs = self._tapped(site, args, kwargs)
        out = func(*args, **kwargs)
        if site.layers or site.results or any(pos < 0 for _, pos in site.outs):
            with torch._C.DisableTorchFunction():
                out = _first(out, lambda t: self._result(site, t))
        return out

    def _untapped(self, name: str, number: int, func: Any, args: Any, kwargs: Any) -> Any:
        """A call without a graph: counted, and tapped only when a reentrant checkpoint makes it again."""
        region = region_now(self)
        site = self.sites[name].get(number)
        if site is not None:
            self.broken = self.broken or site.before != self.total
            self.off = self.off or (region is None and bool(site.taps))
            if region is not None:
                self.regions[name, number] = region
        if region is not None:
            region.many += 1
        self.counts[name] = number + 1
        self.total += 1
        return func(*args, **kwargs)

    # -- arguments ---------------------------------------------------------------------------------
    def _tapped(self, site: Site, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given: list[Tensor] = []
        _collect(args, given)
        _collect(kwargs, given)
        wanted = {*site.taps, *(pos for _, pos in site.squares), *(pos for _, pos in site.outs if pos >= 0)}
        if len(given) != site.given or any(given[pos].dim() != site.ranks[pos] for pos in wanted):
            self.broken = True
            return args, kwargs
        for row, pos in site.squares:
            self._square(row, given[pos])
        new = list(given)
        for pos, wants in site.taps.items():
            tapped = self._tap(given[pos], wants)
            for k in range(len(given)):
                if k == pos or (site.alias and given[k] is given[pos]):
                    new[k] = tapped
        for row, pos in site.outs:
            if pos >= 0:
                new[pos] = self._out(row, new[pos])
        return _replaced(args, new, [0]), _replaced(kwargs, new, [_number(args)])

    def _tap(self, x: Tensor, wants: list[tuple[int, int]]) -> Tensor:
        if not x.requires_grad:
            return x
        zs = [self._z(gather, z, x) for gather, z in wants]
        if not torch.compiler.is_compiling() and any(z.shape != x.shape for z in zs):
            self.broken = True  # another size than where the fork was tapped first: not the op it is taken for
            return x
        return Tap.apply(x, *zs)  # type: ignore[no-any-return]

    def _z(self, gather: int, z: int, x: Tensor) -> Tensor:
        if (gather, z) not in self._zs:
            assert self.slots is not None
            if gather < 0:
                zs = SourceGather.apply(self.slots.sources[~gather], x, self.plan.groups[~gather])
            else:
                zs = Gather.apply(self.slots.gather(gather), x, self.plan.specs[gather])
            for k, made in enumerate(zs):
                self._zs[(gather, k)] = made
        # Taken out at its use: whatever stayed here would leave a compiled graph as one of its results.
        return self._zs.pop((gather, z))

    def _square(self, row: int, f: Tensor) -> None:
        assert self.slots is not None
        square = mean_square(f, self.plan.dtype)
        before = self._squares.get(row)
        self._squares[row] = square if before is None else before + square

    # -- results -----------------------------------------------------------------------------------
    def _result(self, site: Site, y: Tensor) -> Tensor:
        if not y.requires_grad:
            return y
        assert self.slots is not None
        for layer in site.layers:
            y = Out.apply(y, self.slots.layer(layer), None)  # type: ignore[assignment]
        for row, pos in site.outs:
            if pos < 0:
                y = self._out(row, y)
        return self._tap(y, site.results) if site.results else y

    def _out(self, row: int, y: Tensor) -> Tensor:
        if not y.requires_grad:
            return y
        assert self.slots is not None
        return Out.apply(y, self.slots.out(row), self._squares.pop(row, None))  # type: ignore[no-any-return]


def _inside_compiler() -> bool:
    """Whether a call is none of the model's: the compiler's arithmetic while it compiles, or a kernel its code calls.

    Compiled code runs inside one autograd function, where gradients are off.
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
    if isinstance(value, Tensor):
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


def _first(out: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Changes the first tensor of a result."""
    if isinstance(out, Tensor):
        return change(out)
    if isinstance(out, tuple) and out and isinstance(out[0], Tensor) and type(out) is tuple:
        return (change(out[0]), *out[1:])
    return out
