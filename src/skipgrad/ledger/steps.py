"""Makes the rows of a step from what backwards bring; knows when a step is over and what it did to the weights."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skipgrad.core import LayerRow
from skipgrad.ledger.arrivals import Arrivals, backward_now
from skipgrad.ledger.kept import Kept
from skipgrad.ledger.plan import TapPlan
from skipgrad.ledger.rows import read
from skipgrad.ledger.source_rows import read_sources
from skipgrad.ledger.weights import WeightStats, WeightWatch


class Steps:
    """Counts forwards, backwards and steps, and reads the figures of each.

    Args:
        optimizer: the optimizer whose steps are counted; without one every backward is a step.
        every: one step in so many is measured.
        kept: takes the rows.
        note: takes a sentence on what could not be measured.
        ended: called when steps are over and their rows are in `kept`.

    Attributes:
        number: the number of the step that is going on.
        forwards: how many forwards there were.
        waiting: the arrivals of the forwards since the last step.
        scaler: the ``GradScaler`` that multiplies the loss, if the user named one.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None,
        every: int,
        kept: Kept,
        note: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self.number = 0
        self.forwards = 0
        self.waiting: list[Arrivals] = []
        self.scaler: Any = None
        self._optimizer, self._every = optimizer, every
        self._kept, self._note, self._ended = kept, note, ended
        self._hooks: list[Any] = []
        self._inbox: list[Arrivals] = []  # forwards to which a backward has brought figures
        self._scale: float | None = None  # the scaler's at the last forward
        self._unstepped: list[int] = []  # steps the scaler did not let the optimizer take
        self._since = 0  # forwards since the last step
        self._micro = 0
        self._arrived: dict[str, tuple[int, float, bool]] = {}  # layer -> depth, ‖dL/dz‖ of the step so far, finite
        self._weights: WeightWatch | None = None
        self._stats: dict[str, WeightStats] = {}
        self._closure = False

    # -- forwards ----------------------------------------------------------------------------------
    def begin(self) -> None:
        """The watch begins."""
        if self._optimizer is not None:
            # The optimizer holds its hooks; they hold this only weakly.
            me: weakref.ref[Steps] = weakref.ref(self)
            self._hooks = [
                self._optimizer.register_step_pre_hook(
                    lambda _o, args, kwargs: _call(me, Steps._before_step, _has_closure(args, kwargs))
                ),
                self._optimizer.register_step_post_hook(lambda *_: _call(me, Steps._after_step)),
            ]

    def before_forward(self) -> None:
        """Called before a forward that is not inside a backward: whatever went before it is over."""
        # In this order: the figures of a step that the scaler left out must be read before that step is closed.
        self.flush()
        self._skipped_step()

    def forward(self) -> bool:
        """Counts a forward; whether it is to be measured."""
        self.forwards += 1
        self._since += 1
        if self.number % self._every:
            if self._optimizer is None:
                self.number += 1  # the number of the backward is the step: an unmeasured forward counts as one
            return False
        return True

    def arrivals(self, plan: TapPlan) -> Arrivals:
        """Where the figures of the forward that begins will arrive."""
        return Arrivals(plan, self._factor(), self.forwards, self._inbox)

    def follow(self, inner: nn.Module, plan: TapPlan, named: dict[str, nn.Parameter] | None) -> None:
        """Follows the weights of a plan's layers."""
        layers: dict[str, tuple[str, ...]] = {}
        for name, _, weights in plan.layers:
            layers.setdefault(name.split("#")[0], weights)
        self._weights = WeightWatch(inner, layers, named)

    def _factor(self) -> float:
        """What the loss is multiplied by."""
        if self.scaler is not None:
            return float(self.scaler.get_scale())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16:
                self._note(
                    "float16 autocast, and no GradScaler was named: if you use one, call ledger.scaled_by(scaler), "
                    "as the figures are of the scaled loss"
                )
        return 1.0

    # -- backwards and steps -----------------------------------------------------------------------
    def flush(self) -> None:
        """Reads what backwards have brought."""
        if backward_now() >= 0:
            return  # the rest of it is still to come
        taken = [(number, a) for a in self._inbox for number in a.parts]
        self._inbox.clear()
        # By backward, then by forward, as `micro` counts them; the inbox is in the order in which gradients arrived.
        taken.sort(key=lambda t: (t[0], t[1].number))
        for k, (number, arrivals) in enumerate(taken):
            rows = arrivals.taken(number)
            if arrivals.dropped:
                continue
            plan = arrivals.plan
            figures = read(plan, rows, arrivals.refused, step=self.number, micro=self._micro, scale=arrivals.scale)
            self._kept.add_skips(figures.skips)
            sources, without = read_sources(plan, rows, figures.skips, scale=arrivals.scale)
            self._kept.add_sources(sources)
            for name, reason in (figures.missing | without).items():
                self._note(f"{name}: not measured: {reason}")
            # Reversed, so that a layer that is called several times keeps the depth of its first call.
            depths = {name.split("#")[0]: depth for name, depth, _ in reversed(plan.layers)}
            for layer, (size, finite) in figures.layers.items():
                _, before, fine = self._arrived.get(layer, (0, 0.0, True))
                self._arrived[layer] = (depths[layer], (before**2 + size**2) ** 0.5, fine and finite)
            self._micro += 1
            if self._optimizer is None and (k + 1 == len(taken) or taken[k + 1][0] != number):
                # Without an optimizer a step is a backward, through however many forwards.
                self._close_step(self._weights.norms() if self._weights is not None else {})
                self.number += 1
                self._micro = 0
                self.waiting.clear()
        if self._optimizer is None:
            self._ended()

    def _skipped_step(self) -> None:
        """Closes a step that the scaler did not let the optimizer take.

        No hook of the optimizer runs then; the only sign is that the scaler's factor has fallen.
        """
        if self.scaler is None:
            return
        scale = float(self.scaler.get_scale())
        fell = self._scale is not None and scale < self._scale
        self._scale = scale
        if self._optimizer is None or not fell or not self._since:
            return
        self._unstepped.append(self.number)
        stats = self._weights.norms() if self._weights is not None else {}
        for entry in stats.values():
            entry.update_norm = 0.0
        self._close_step(stats)
        self._next_step()

    def _before_step(self, closure: bool) -> None:
        self.flush()
        self._closure = closure
        # With a closure, forward and backward are still to come, inside the step.
        if self._weights is not None and (self._arrived or (closure and self.number % self._every == 0)):
            self._weights.keep()
            factor = getattr(self._optimizer, "grad_scale", None)  # a fused step divides it out itself
            self._stats = {} if closure else self._weights.norms(1.0 if factor is None else float(factor))

    def _after_step(self) -> None:
        self.flush()
        if self._arrived and self._weights is not None:
            stats = self._weights.norms() if self._closure else self._stats
            self._weights.moved(stats)
            self._close_step(stats)
        self._stats = {}
        self._next_step()

    def _next_step(self) -> None:
        self.number += 1
        self._micro = self._since = 0
        self.waiting.clear()  # a forward still waiting belongs to a step that is over
        self._ended()

    def _close_step(self, stats: dict[str, WeightStats]) -> None:
        rows: list[LayerRow] = []
        for layer, (depth, size, finite) in self._arrived.items():
            entry = stats.get(layer)
            rows.append(
                LayerRow(
                    step=self.number,
                    layer=layer,
                    depth=depth,
                    out_grad_norm=size,
                    weight_norm=entry.weight_norm if entry else float("nan"),
                    weight_grad_norm=entry.weight_grad_norm if entry else None,
                    update_norm=entry.update_norm if entry else None,
                    stalled=entry.stalled if entry else None,
                    zero_grad=entry.zero_grad if entry else None,
                    weights=entry.weights if entry else 0,
                    dtype=entry.dtype if entry else "",
                    finite=finite and (entry.finite if entry else True),
                )
            )
        self._kept.add_layers(rows)
        self._arrived.clear()

    # -- the end -----------------------------------------------------------------------------------
    def end(self) -> None:
        """Ends the watch: reads the last figures and takes the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.flush()
        self._skipped_step()
        if self._unstepped:
            first = ", ".join(map(str, self._unstepped[:6])) + (" …" if len(self._unstepped) > 6 else "")
            self._note(f"the GradScaler let {len(self._unstepped)} steps pass without moving a weight ({first})")
            self._unstepped.clear()
        idle = sum(not a.seen for a in self.waiting)
        if idle:
            self._note(f"{idle} forwards were followed by no backward and left no rows")
        self.waiting.clear()
        if self._arrived:
            # A backward no step followed: a loss that is not finite, or the end of the loop.
            self._close_step(self._weights.norms() if self._weights is not None else {})
        if self.forwards == 0:
            self._note(
                "no forward of the watched model was seen: call the very object given to sg.watch, with gradients on"
            )
        self._weights = None


def _call(ref: weakref.ref[Steps], method: Callable[..., None], *args: Any) -> None:
    steps = ref()
    if steps is not None:
        method(steps, *args)


def _has_closure(args: Any, kwargs: Any) -> bool:
    """Whether ``step`` was given a closure; the optimizer itself is the first of its arguments."""
    given = args[1] if len(args) > 1 else kwargs.get("closure")
    return given is not None
